"""`heartbeat predict`: classify audio files with a registered model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flows.cli.console import bar, note, plain_console, rich_table
from flows.cli.outputs import writable_file
from flows.local.environment import prepare_environment
from heartdata.audio.decode import read_bytes
from heartdata.config import RunConfig
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.sources.base import find_files
from heartdata.storage.store import Store
from tasks.registry.client import find_version, is_empty, load_model

BATCH_FILES, BATCH_BYTES = 32, 64 << 20


def predict_files(paths: Sequence[Path], model_uri: str | None, out: Path | None, config: RunConfig) -> None:
    """Show a model's prediction for each audio file in ``paths`` (files and folders); ``out``: a CSV of all columns.

    ``model_uri``: as in `tasks.registry.client.find_version`. Raises `HeartbeatError`, also when every file is refused.
    """
    files, notes = [], []
    for path in paths:
        more, left_out = _files_of(path)
        files += more
        notes += left_out
    store = Store(config.store)
    if is_empty(config.registry, store):
        raise HeartbeatError(
            f"no model is registered in {store.uri}: run `heartbeat run` first, or name another --store"
        )
    if out is not None:
        out = writable_file(out)
    prepare_environment(store.open())
    console = plain_console()
    uri, on_choice = find_version(model_uri, config.registry, store)
    notes += [on_choice] * bool(on_choice)
    _, model = load_model(uri, config.registry, store)
    rows: list[dict[str, Any]] = []
    with bar(console, "predicting") as advance:
        for batch in _batches(files):
            rows += _predictions(model, batch)
            advance(len(rows), len(files))
    frame = pd.DataFrame(rows).assign(model=uri)
    console.print(rich_table(f"Predictions of {uri}", shown(rows)))
    if text := accuracy_note(model.unwrap_python_model().predictor.config.calibration):
        console.print(text)
    if refused := int(frame["error"].notna().sum()):
        console.print(f"{refused} of {len(files)} files have no prediction")
    for text in notes:
        console.print(note(text))
    if out is not None:
        frame.to_csv(out, index=False)
        console.print(f"Written     {out}")
    if refused == len(files):
        raise HeartbeatError(f"none of the {len(files)} files has a prediction; the first: {frame['error'][0]}")


def accuracy_note(fitted: Calibration) -> str:
    """How accurate the model was where it was not unsure; empty where that was not measured."""
    if not {"coverage", "risk"} <= fitted.model_fields_set:
        return ""
    return (
        f"On its validation recordings this model decided {fitted.coverage:.0%} (the rest: unsure), and "
        f"{fitted.risk:.0%} of these decisions were wrong"
    )


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the terminal; with the most probable class where any label is another (see `decision` settings)."""
    most_probable = [_most_probable(row) for row in rows]
    differs = any(name not in ("", row["label"]) for name, row in zip(most_probable, rows, strict=True))
    result = []
    for row, name in zip(rows, most_probable, strict=True):
        failed = row["error"] is not None
        result.append(
            {
                "file": row["file"],
                "label": "" if failed else row["label"],
                "unsure": "unsure" if row["unsure"] and not failed else "",
                "probability": "" if failed else f"{row['p_' + row['label']]:.2f}",
                **({"most probable": name and f"{name} {row['p_' + name]:.2f}"} if differs else {}),
                "error": row["error"] or "",
            }
        )
    return result


def _most_probable(row: dict[str, Any]) -> str:
    """The class of the highest probability, the label among equals; empty where there is no prediction."""
    if row["error"] is not None:
        return ""
    probabilities = {name.removeprefix("p_"): p for name, p in row.items() if name.startswith("p_")}
    return max(probabilities, key=lambda name: (probabilities[name], name == row["label"]))


def _files_of(path: Path) -> tuple[list[Path], list[str]]:
    """The audio files that ``path`` means, and a note on the other files of a folder."""
    if not path.exists():
        raise HeartbeatError(f"{path} does not exist")
    if not path.is_dir():
        return [path], []
    files = find_files(path)
    left_out = files.left_out(companions=True)
    if not files.audio:
        raise HeartbeatError(". ".join([f"{path} holds no audio file", *left_out]))
    return files.audio, left_out


def _predictions(model: Any, batch: Sequence[tuple[Path, bytes, str | None]]) -> Iterator[dict[str, Any]]:
    predictions = model.predict(pd.DataFrame({"audio": [content for _, content, _ in batch]}))
    for (file, _, error), row in zip(batch, predictions.to_dict("records"), strict=True):
        yield {"file": str(file), **row, **({"error": error} if error else {})}


def _batches(files: Sequence[Path]) -> Iterator[list[tuple[Path, bytes, str | None]]]:
    """Files with their contents, or why there are none, as many at a time as fit into memory."""
    batch: list[tuple[Path, bytes, str | None]] = []
    for file in files:
        batch.append((file, *_read(file)))
        if len(batch) == BATCH_FILES or sum(len(content) for _, content, _ in batch) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(file: Path) -> tuple[bytes, str | None]:
    """The bytes of a file, or none and why it cannot be read: one file must not stop the others."""
    if file.exists() and not file.is_file():  # to read a pipe would wait forever
        return b"", "it is no file: name a file"
    try:
        return read_bytes(str(file)), None
    except BadAudio as error:
        return b"", str(error)
    except OSError as error:
        reason = "it is a broken link" if file.is_symlink() else str(error.strerror)
        return b"", f"cannot be read ({reason}): correct the path and run again"
