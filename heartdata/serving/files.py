"""Predictions for files, as many at a time as fit into memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from heartdata.audio.decode import read_bytes
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.serving.predictor import Prediction, Predictor, prediction_frame
from heartdata.storage.remote import is_remote

BATCH_FILES, BATCH_BYTES = 32, 64 << 20


@dataclass(frozen=True)
class FileContent:
    """A file's bytes, or why they cannot be read."""

    uri: str
    content: bytes = b""
    error: str | None = None


def read_file(uri: str, sha256: str | None = None, is_retried: bool = False) -> FileContent:
    """The content of a file, by its path or any fsspec URI; with ``sha256``, only the content of that hash.

    Raises OSError where a retry may help, if it ``is_retried``.
    """
    path = Path(uri)
    if not is_remote(uri) and path.exists() and not path.is_file():  # to read a pipe would wait forever
        return FileContent(uri, error="it is no file: name a file")
    try:
        return FileContent(uri, read_bytes(uri, sha256))
    except (BadAudio, HeartbeatError) as error:
        return FileContent(uri, error=str(error))
    except OSError as error:
        if is_retried and not isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        reason = "it is a broken link" if path.is_symlink() else error.strerror or str(error)
        return FileContent(uri, error=f"cannot be read ({reason}): correct the path and run again")


def in_batches(files: Iterable[FileContent]) -> Iterator[list[FileContent]]:
    """``files``, consumed lazily, at most BATCH_FILES at a time and little more than BATCH_BYTES."""
    batch: list[FileContent] = []
    for file in files:
        batch.append(file)
        if len(batch) == BATCH_FILES or sum(len(each.content) for each in batch) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def predict_batch(predictor: Predictor, batch: list[FileContent]) -> pd.DataFrame:
    """A row for each file of ``batch``: ``file`` and the columns of `prediction_frame` with ``most_probable``."""
    readable = iter(predictor.predict(file.content for file in batch if not file.error))
    results: list[Prediction | BadAudio] = [BadAudio(file.error) if file.error else next(readable) for file in batch]
    frame = prediction_frame(results, predictor)
    frame.insert(0, "file", [file.uri for file in batch])
    likeliest = [most_probable(result, predictor.config.classes) for result in results]
    frame.insert(2, "most_probable", pd.Series(likeliest, dtype=object))
    return frame


def most_probable(result: Prediction | BadAudio, classes: tuple[str, ...]) -> str | None:
    """The class of the highest probability, the label among equals."""
    if isinstance(result, BadAudio):
        return None
    by_class = dict(zip(classes, result.probabilities, strict=True))
    return max(classes, key=lambda name: (by_class[name], name == result.label))
