"""`heartbeat predict`: classify audio files with a registered model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from flows.cli.console import bar, note, plain_console, rich_table
from flows.cli.outputs import writable_file, writable_folder
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.serving.formats import check_format, write_predictions
from heartdata.sources.base import find_files
from heartdata.sources.table.readers import SUFFIXES
from heartdata.storage.store import Store, atomic_write
from tasks.registry.client import find_version, load_model, refuse_empty_registry

NAME_LENGTH = 50  # characters of a picture's name, of up to four bytes each; file systems allow 255


def predict_files(
    paths: Sequence[Path], model_uri: str | None, out: Path | None, config: RunConfig, pictures: Path | None = None
) -> None:
    """Show a model's prediction for each audio file in ``paths`` (files and folders).

    ``out``: a file for all columns; ``pictures``: a folder for one explanation (PNG) a recording; ``model_uri``: as in
    `tasks.registry.client.find_version`. Raises `HeartbeatError`, also when every file is refused.
    """
    files, notes = [], []
    for path in paths:
        more, left_out = _files_of(path)
        files += more
        notes += left_out
    store = Store(config.store)
    refuse_empty_registry(config.registry, store)
    if out is not None:
        out = writable_file(out)
        check_format(out)
    if pictures is not None:
        pictures = writable_folder(pictures)
    prepare_environment(store.open())
    console = plain_console()
    uri, on_choice = find_version(model_uri, config.registry, store)
    notes += [on_choice] * bool(on_choice)
    _, predictor = load_model(uri, config.registry, store)
    frame = _predictions(predictor, files, pictures, console).assign(model=uri)
    folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    if rows := shown(frame, folder):
        console.print(rich_table(f"Predictions of {uri}", rows))
    for text in explained(frame, predictor.config.calibration, predictor.config.classes):
        console.print(text)
    refused = _show_refused(frame, folder, console)
    for text in notes:
        console.print(note(text))
    if out is not None:
        write_predictions(frame, out)
        console.print(f"Written     {out}", markup=False)
    if pictures is not None:
        console.print(f"Pictures    {pictures}", markup=False)
    if refused == len(files):
        raise HeartbeatError(f"none of the {len(files)} files has a prediction; the first: {frame['error'][0]}")


def _show_refused(frame: pd.DataFrame, folder: Path | None, console: Console) -> int:
    """Print the files that have no prediction, with the reasons; returns how many."""
    refused = frame[frame["error"].notna()].to_dict("records")
    if refused:
        console.print(f"{len(refused)} of {len(frame)} files have no prediction:")
    for row in refused:
        console.print(f"  {_name(row['file'], folder)}: {row['error']}", markup=False, highlight=False)
    return len(refused)


def _predictions(predictor: Any, files: Sequence[Path], pictures: Path | None, console: Console) -> pd.DataFrame:
    """A row for each file, see `heartdata.serving.files.predict_batch`; with ``picture`` if they are drawn."""
    from heartdata.serving.files import in_batches, predict_batch, read_file  # loads torch

    frames: list[pd.DataFrame] = []
    done = 0
    names = picture_names(files)
    with bar(console, "predicting") as advance:
        for batch in in_batches(read_file(str(file)) for file in files):
            frame = predict_batch(predictor, batch)
            if pictures is not None:
                each = zip(batch, frame["error"], names[done:], strict=False)
                frame["picture"] = [
                    _draw(predictor, file, pictures / name) if e is None else None for file, e, name in each
                ]
            frames.append(frame)
            done += len(batch)
            advance(done, len(files))
    return pd.concat(frames, ignore_index=True)


def explained(frame: pd.DataFrame, fitted: Calibration, classes: Sequence[str]) -> list[str]:
    """What a reader must know of these predictions: what unsure means, and why a label is not the most probable class."""
    sentences = [accuracy_note(fitted)]
    predicted = frame[frame["error"].isna()]
    if fitted.unsure_below > 0:
        sentences.append(f"Unsure: the label's probability is below {fitted.unsure_below:.2f}, do not rely on it")
    if differing := int((predicted["label"] != predicted["most_probable"]).sum()):
        weights = fitted.class_weights or [1.0] * len(classes)
        listed = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(classes, weights, strict=True))
        sentences.append(
            f"{differing} labels are not the most probable class: the model's operating point multiplies probabilities "
            f"before it chooses ({listed})"
        )
    return list(filter(None, sentences))


def accuracy_note(fitted: Calibration) -> str:
    """How accurate the model was where it was not unsure; empty where that was not measured."""
    if not {"coverage", "risk"} <= fitted.model_fields_set:
        return ""
    return (
        f"On its validation recordings this model decided {fitted.coverage:.0%} (the rest: unsure), and "
        f"{fitted.risk:.0%} of these decisions were wrong"
    )


def shown(frame: pd.DataFrame, folder: Path | None = None) -> list[dict[str, Any]]:
    """Rows for the terminal of the files with a prediction, named from ``folder`` on.

    Columns that say nothing of any file are left out.
    """
    rows = []
    for row in frame[frame["error"].isna()].to_dict("records"):
        label, probable, rate_bpm = row["label"], row["most_probable"], row["heart_rate_bpm"]
        rows.append({
            "file": _name(row["file"], folder),
            "label": f"unsure ({label})" if row["unsure"] else label,
            "probability": f"{row['p_' + label]:.2f}",
            "most probable": f"{probable} {row['p_' + probable]:.2f}" if probable != label else "",
            "heart rate": f"{rate_bpm:.0f}" if pd.notna(rate_bpm) else "",
            "warnings": row["warnings"],
        })  # fmt: skip
    used = {name for row in rows for name, cell in row.items() if cell}
    return [{name: cell for name, cell in row.items() if name in used} for row in rows]


def _name(file: str, folder: Path | None) -> str:
    return file if folder is None else str(Path(file).relative_to(folder))


def picture_names(files: Sequence[Path]) -> list[str]:
    """A file name for the picture of each of ``files``: its own name, with a number where another has it already."""
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        stem = re.sub(r"[^\w.-]+", "_", file.name)[-NAME_LENGTH:].lstrip(".") or "recording"
        number, name = 1, stem
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(f"{name}.png")
    return names


def _draw(predictor: Any, file: Any, target: Path) -> str | None:
    """Write what speaks for the prediction of a recording as a PNG; returns its path, None where there is none."""
    from heartdata.reports.explanation import plot_explanation
    from heartdata.serving.explain import explain

    try:
        explanation = explain(predictor, file.content)
    except BadAudio:
        return None
    title = f"{Path(file.uri).name}: what speaks for {explanation.explained}"
    with atomic_write(target) as png:
        png.write(plot_explanation(explanation, predictor.config.spectrogram, title))
    return str(target)


def _files_of(path: Path) -> tuple[list[Path], list[str]]:
    """The audio files that ``path`` means, and a note on the other files of a folder."""
    if not path.exists():
        raise HeartbeatError(f"{path} does not exist: name an audio file, or a folder of them")
    if not path.is_dir():
        if path.suffix.lower() in SUFFIXES:
            raise HeartbeatError(f"{path} is a table: predict its recordings with `heartbeat score {path} --out FILE`")
        return [path], []
    files = find_files(path)
    left_out = files.left_out(companions=True)
    if not files.audio:
        raise HeartbeatError(". ".join([f"{path} holds no audio file: name another folder, or audio files", *left_out]))
    return files.audio, left_out
