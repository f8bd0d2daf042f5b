"""The recordings of a run that a person should listen to: mistakes, unsure predictions, suspected labels, quarantine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from heartdata.audio.channels import choose
from heartdata.audio.decode import decode, read_bytes
from heartdata.audio.spectrograms import log_mel
from heartdata.dataset.windows import window, window_starts
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.reports.clips import Clip, make_clip
from heartdata.scoring.calibration import confidence_of
from heartdata.scoring.label_errors import Suspects
from heartdata.serving.explain import relevance
from heartdata.serving.predictor import Predictor
from heartdata.training.features import outputs_of

MISTAKES, UNSURE, SUSPECTS, QUARANTINED = 12, 8, 12, 30  # shown of each
EXPLAINED_S = 30.0  # of a recording: the map of 10 minutes takes 17 s
JUDGED = 64  # windows of a longer one, the same time apart
PROBABILITIES = 3  # shown of a recording, and that of its label


@dataclass(frozen=True)
class Entry:
    """One recording: what is known of it, why it is shown, and a clip, or why there is none (``problem``).

    ``verdict``: the prediction, or the check that it failed; ``uri``: None where there is no file.
    """

    recording_id: str
    verdict: str
    label: str | None
    subject: str | None
    uri: str | None
    sha256: str | None
    predicted: bool = True
    reason: str = ""
    probabilities: tuple[tuple[str, float], ...] = ()
    clip: Clip | None = None
    problem: str = ""


@dataclass(frozen=True)
class Chapter:
    """Entries shown together, out of ``total``; ``counts``: how many there are of each kind, and how many are shown."""

    title: str
    explanation: str
    entries: tuple[Entry, ...]
    total: int
    counts: list[dict[str, Any]] = field(default_factory=list)


def chapters(
    predictions: pd.DataFrame, quarantine: pd.DataFrame, recordings: pd.DataFrame, suspects: Suspects,
    classes: list[str], unsure_below: float,
) -> list[Chapter]:  # fmt: skip
    """What to listen to, without clips. ``predictions``: of the test part (`predictions_schema`), and see QUARANTINE and
    RECORDINGS in `heartdata.storage.schemas`.
    """
    known = recordings.set_index("recording_id")
    confidence = confidence_of(
        predictions["prediction"], predictions[[f"p_{name}" for name in classes]].to_numpy(float), classes
    )
    sorted_rows = predictions.assign(confidence=confidence).sort_values(["confidence", "recording_id"])
    is_unsure = sorted_rows["confidence"] < unsure_below
    wrong = sorted_rows[(sorted_rows["label"] != sorted_rows["prediction"]) & ~is_unsure][::-1]
    least_sure = sorted_rows[is_unsure]
    abstained = f"Test recordings whose prediction has a probability below {unsure_below:.3f}: the model abstains."
    mistaken = "Test recordings, the most confident first"
    mistaken += "." if least_sure.empty else "; those that the model is unsure about are left out."
    if least_sure.empty:
        least_sure, abstained = sorted_rows, "Test recordings, the least confident first; the model abstains from none."

    def entries(rows: pd.DataFrame, limit: int) -> tuple[Entry, ...]:
        return tuple(_predicted(row, known, classes) for row in rows.head(limit).to_dict("records"))

    shown = _of_each_check(quarantine, QUARANTINED)
    counts = quarantine["check"].value_counts()
    of_check = shown["check"].value_counts()
    suspected = (
        "Recordings whose labels the model, which was not trained on them, finds hard to believe (confident learning). "
    )
    if suspects.weakness:
        suspected = f"No label is suspected: {suspects.weakness}."
    elif suspects.rows.empty:
        suspected = f"None of the {suspects.judged} labels of held-out recordings is suspected."
    else:
        suspected += (
            f"The model's balanced accuracy on the {suspects.judged} held-out recordings is {suspects.balanced_accuracy:.3f}: the "
            "lower it is, the more of these labels are right and the model is wrong. All are in corrections.csv, to be "
            "filled in: in the MLflow run and, unless that of an earlier run has been filled in, beside this page."
        )
    return [
        Chapter("Worst mistakes", mistaken, entries(wrong, MISTAKES), len(wrong)),
        Chapter("Least sure", abstained, entries(least_sure, UNSURE), len(least_sure)),
        Chapter("Suspected label errors", suspected, entries(suspects.rows, SUSPECTS), len(suspects.rows)),
        Chapter(
            "Quarantined recordings",
            "Recordings that failed a critical check; no part of the split holds them.",
            tuple(_refused(row, known) for row in shown.to_dict("records")),
            len(quarantine),
            [{"check": name, "recordings": n, "shown": int(of_check[name])} for name, n in counts.items()],
        ),
    ]


def _of_each_check(quarantine: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most ``limit`` rows, as equally many of each check as there are, in the order of the checks."""
    turn = quarantine.groupby("check").cumcount()
    chosen = quarantine.loc[turn.sort_values(kind="stable").index[:limit]]
    return chosen.sort_values(["check", "recording_id"])


def _predicted(row: dict[str, Any], known: pd.DataFrame, classes: list[str]) -> Entry:
    likely = sorted(((name, float(row[f"p_{name}"])) for name in classes), key=lambda pair: -pair[1])
    shown = [pair for rank, pair in enumerate(likely) if rank < PROBABILITIES or pair[0] == row["label"]]
    return replace(_entry(row, known, row["prediction"]), probabilities=tuple(shown))


def _refused(row: dict[str, Any], known: pd.DataFrame) -> Entry:
    entry = replace(_entry(row, known, row["check"]), predicted=False, reason=row["reason"])
    return entry if entry.uri else replace(entry, problem="There is no file.")


def _entry(row: dict[str, Any], known: pd.DataFrame, verdict: str) -> Entry:
    of_source = known.loc[row["recording_id"]] if row["recording_id"] in known.index else pd.Series(dtype=object)

    def text(value: Any) -> str | None:
        return value if isinstance(value, str) else None

    uri = None if text(of_source.get("missing")) else text(of_source.get("uri"))
    subject, sha256 = text(of_source.get("subject")), text(of_source.get("sha256"))
    return Entry(row["recording_id"], verdict, text(row["label"]), subject, uri, sha256)


def with_clips(
    chapters: Sequence[Chapter], predictor: Predictor, on_done: Callable[[int], None] = lambda done: None
) -> list[Chapter]:
    """The chapters with a clip of each recording that can be read: of a prediction, where it speaks most for it."""
    finished: dict[tuple[str, bool], Entry] = {}
    result = []
    for chapter in chapters:
        entries = []
        for entry in chapter.entries:
            key = entry.recording_id, entry.predicted
            if key not in finished:
                finished[key] = _with_clip(entry, predictor)
                on_done(len(finished))
            entries.append(replace(entry, clip=finished[key].clip, problem=finished[key].problem))
        result.append(replace(chapter, entries=tuple(entries)))
    return result


def clips_to_make(chapters: Iterable[Chapter]) -> int:
    """The number of recordings in ``chapters``."""
    return len({(entry.recording_id, entry.predicted) for chapter in chapters for entry in chapter.entries})


def _with_clip(entry: Entry, predictor: Predictor) -> Entry:
    if entry.uri is None:
        return entry
    try:
        return replace(entry, clip=_clip(read_bytes(entry.uri, entry.sha256), entry, predictor))
    except BadAudio:
        return replace(entry, problem="It cannot be played: it cannot be decoded.")
    except OSError as error:
        return replace(entry, problem=f"It cannot be played: the file cannot be read ({error.strerror or error}).")
    except HeartbeatError as error:
        return replace(entry, problem=f"It cannot be played: {error}.")


def _clip(content: bytes, entry: Entry, predictor: Predictor) -> Clip:
    audio, config = decode(content), predictor.config
    try:
        mono = choose(audio, config.measure.channel).mono
    except BadAudio:  # it has fewer channels
        mono = audio.mono
    of_label = None
    if entry.predicted:
        of_label = _relevance(predictor, log_mel(mono, audio.rate_hz, config.spectrogram), entry.verdict)
    return make_clip(np.asarray(mono), audio.rate_hz, config.spectrogram, of_label)


def _relevance(predictor: Predictor, spectrogram: np.ndarray, label: str) -> np.ndarray:
    """`relevance`; of a long recording, for EXPLAINED_S around the most telling of JUDGED windows, and 0 elsewhere."""
    config = predictor.config
    columns = max(config.width, round(EXPLAINED_S / config.spectrogram.hop_s))
    if config.view == "whole" or len(spectrogram) <= columns:
        return relevance(predictor, spectrogram, label)
    starts = window_starts(len(spectrogram), config.width)
    starts = starts[:: -(-len(starts) // JUDGED)]
    (outputs,) = outputs_of(predictor.net, [[window(spectrogram, at, config.width) for at in starts]])
    telling = starts[int(outputs.softmax(1)[:, config.classes.index(label)].argmax())]
    first = min(max(0, telling - (columns - config.width) // 2), len(spectrogram) - columns)
    explained = slice(first, first + columns)
    result = np.zeros(spectrogram.shape)
    result[explained] = relevance(predictor, spectrogram[explained], label)
    return result
