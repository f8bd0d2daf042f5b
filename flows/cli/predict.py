"""`heartbeat predict`: what a registered model answers for audio files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from flows.cli.data import bar, table_of
from flows.cli.outputs import writable_file
from flows.local.environment import prepare
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.sources.base import AUDIO_SUFFIXES, audio_files
from heartdata.storage.store import Store
from tasks.registry.client import is_empty, load_model

FILES_AT_ONCE, BYTES_AT_ONCE = 32, 64 << 20


def predict_files(paths: Sequence[Path], named: str | None, out: Path | None, run: RunConfig) -> None:
    """Show a model's answer for each audio file of ``paths`` (files and folders); ``out``: a CSV of all of it.

    ``named``: as in `tasks.registry.client.load_model`. Raises `HeartbeatError`, also when no file has an answer.
    """
    files = [file for path in paths for file in _files_of(path)]
    store = Store(run.store)
    if is_empty(run.registry, store):
        raise HeartbeatError(f"no model is registered in {store.uri} yet: run heartbeat, or name another --store")
    if out is not None:
        out = writable_file(out)
    prepare(store.open())
    console = Console(emoji=False)
    uri, model = load_model(named, run.registry, store)
    answers = []
    with bar(console, "predicting") as advance:
        for batch in _batches(files):
            answers += _answers(model, batch)
            advance(len(answers), len(files), "")
    frame = pd.DataFrame(answers).assign(model=uri)
    console.print(table_of(f"Answers of {uri}", shown(answers)))
    if known := accuracy_note(model.unwrap_python_model().predictor.config.calibration):
        console.print(known, highlight=False)
    if refused := int(frame["error"].notna().sum()):
        console.print(f"{refused} of {len(files)} files have no answer", highlight=False)
    if out is not None:
        frame.to_csv(out, index=False)
        console.print(f"Written     {out}", highlight=False, soft_wrap=True)
    if refused == len(files):
        raise HeartbeatError(f"none of the {len(files)} files has an answer; the first: {frame['error'][0]}")


def accuracy_note(fitted: Calibration) -> str:
    """How right the answers that are not unsure were; empty where it was not measured."""
    if not {"coverage", "risk"} <= fitted.model_fields_set:
        return ""
    return (
        f"On its validation recordings {fitted.coverage:.0%} of this model's answers were not unsure, and of these "
        f"{fitted.risk:.0%} were wrong"
    )


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise HeartbeatError(f"{path} does not exist")
    if not path.is_dir():
        return [path]
    found = audio_files(path)
    if not found:
        raise HeartbeatError(f"{path} holds no audio file ({', '.join(AUDIO_SUFFIXES)})")
    return found


def _batches(files: Sequence[Path]) -> Iterator[list[tuple[Path, bytes]]]:
    """Files with their contents, so many at a time that they fit into memory together."""
    batch: list[tuple[Path, bytes]] = []
    for file in files:
        batch.append((file, _read(file)))
        if len(batch) == FILES_AT_ONCE or sum(len(content) for _, content in batch) > BYTES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _answers(model: Any, batch: Sequence[tuple[Path, bytes]]) -> list[dict[str, Any]]:
    """One row a file: its name, and what the model says of it (see ``mlflow/served_model.py``)."""
    rows = model.predict(pd.DataFrame({"audio": [content for _, content in batch]})).to_dict("records")
    return [{"file": str(file), **row} for (file, _), row in zip(batch, rows, strict=True)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeartbeatError(f"{path} cannot be read ({error.strerror}): mend the path, and ask again") from error


def shown(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of the rows stands in the terminal; the most probable class, too, where it is not every row's label."""
    rows, likeliest = [_shown(row) for row in answers], [_likeliest(row) for row in answers]
    if all(name in ("", row["label"]) for name, row in zip(likeliest, answers, strict=True)):
        return rows
    told = [f"{name} {row['p_' + name]:.2f}" if name else "" for name, row in zip(likeliest, answers, strict=True)]
    return [
        {**{k: v for k, v in row.items() if k != "why not"}, "most probable": most, "why not": row["why not"]}
        for row, most in zip(rows, told, strict=True)
    ]


def _likeliest(row: dict[str, Any]) -> str:
    """The class of the highest probability, before the operating point has its say; empty where there is no answer."""
    if row["error"] is not None:
        return ""
    classes = [name for name in row if name.startswith("p_")]
    first = max(classes, key=lambda name: row[name])
    label = "p_" + row["label"]
    return (label if row[label] == row[first] else first).removeprefix("p_")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row stands in the terminal."""
    if row["error"] is not None:
        return {"file": row["file"], "label": "", "unsure": "", "probability": "", "why not": row["error"]}
    probability = f"{row['p_' + row['label']]:.2f}"
    unsure = "unsure" if row["unsure"] else ""
    return {"file": row["file"], "label": row["label"], "unsure": unsure, "probability": probability, "why not": ""}
