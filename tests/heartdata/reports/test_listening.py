"""Which recordings of a run are to be listened to, and what is shown of each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports import listening
from heartdata.reports.listening import QUARANTINED, chapters, clips_to_make, with_clips
from heartdata.scoring.label_errors import Suspects
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.storage.store import sha256_file
from heartdata.training.network import build_net

CLASSES = ["murmur", "normal"]
ROWS = [("a", "murmur", 0.9), ("b", "normal", 0.8), ("c", "normal", 0.95), ("d", "murmur", 0.2), ("e", "normal", 0.45)]


def predictions() -> pd.DataFrame:
    """Wrong: c (.95), b and d (.80). Least sure: e (.55)."""
    rows = pd.DataFrame(ROWS, columns=["recording_id", "label", "p_murmur"])
    rows = rows.assign(p_normal=1 - rows["p_murmur"], sha256=rows["recording_id"], group=rows["recording_id"])
    return rows.assign(prediction=np.where(rows["p_murmur"] > 0.5, "murmur", "normal"))


def recordings(names: list[str], **columns) -> pd.DataFrame:
    rows = pd.DataFrame({"recording_id": names, "uri": None, "sha256": None, "subject": "s1", "missing": None})
    return rows.assign(**columns)


def quarantine(checks: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "recording_id": [f"q{n}" for n in range(len(checks))], "source": "table", "label": None, "check": checks,
            "reason": [f"is {check}" for check in checks],
        }
    )  # fmt: skip


def suspects(rows: pd.DataFrame, **changes) -> Suspects:
    return Suspects(rows.assign(suggested=rows["prediction"]), 5, **changes)


def made(refused: list[str], unsure_below: float = 0.6, **changes):
    rows = predictions()
    names = [*rows["recording_id"], *(f"q{n}" for n in range(len(refused)))]
    found = suspects(rows[rows["recording_id"] == "c"], **changes)
    return chapters(rows, quarantine(refused), recordings(names), found, CLASSES, unsure_below)


def test_mistakes_are_the_most_confident_first_and_the_least_sure_the_least_confident():
    mistakes, unsure, suspected, _ = made([])
    assert [entry.recording_id for entry in mistakes.entries] == ["c", "d", "b"]
    assert mistakes.total == 3
    first = mistakes.entries[0]
    assert (first.label, first.verdict, first.subject) == ("normal", "murmur", "s1")
    assert first.probabilities == (("murmur", 0.95), ("normal", pytest.approx(0.05)))
    assert [entry.recording_id for entry in unsure.entries] == ["e"]
    assert [entry.recording_id for entry in suspected.entries] == ["c"]


def test_a_mistake_that_the_model_is_unsure_about_is_no_worst_mistake():
    mistakes, unsure, _, _ = made([], unsure_below=0.9)
    assert [entry.recording_id for entry in mistakes.entries] == ["c"]
    assert mistakes.total == 1
    assert "unsure about are left out" in mistakes.explanation
    assert [entry.recording_id for entry in unsure.entries] == ["e", "b", "d"]


def test_where_the_model_abstains_from_none_the_least_confident_are_shown():
    _, unsure, _, _ = made([], unsure_below=0.0)
    assert unsure.entries[0].recording_id == "e"
    assert "abstains from none" in unsure.explanation


def test_why_no_label_is_suspected_is_said():
    rows = predictions()
    weak = Suspects(rows[:0].assign(suggested=""), 5, weakness="the model is too weak to judge labels")
    suspected = chapters(rows, quarantine([]), recordings([]), weak, CLASSES, 0.0)[2]
    assert suspected.explanation == "No label is suspected: the model is too weak to judge labels."


def test_each_reason_of_quarantine_is_represented_and_the_rest_counted():
    refused = made([*["too_short"] * 500, *["silent"] * 400, "undecodable"])[3]
    assert refused.total == 901
    assert len(refused.entries) == QUARANTINED
    assert refused.counts == [
        {"check": "too_short", "recordings": 500, "shown": 15},
        {"check": "silent", "recordings": 400, "shown": 14},
        {"check": "undecodable", "recordings": 1, "shown": 1},
    ]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    config = ModelConfig(classes=CLASSES, width=64, spectrogram=SpectrogramConfig(), dataset_version="d", init="random")
    return Predictor(build_net(len(CLASSES)).eval(), config)


def test_of_a_long_recording_the_most_telling_part_is_explained(predictor: Predictor, monkeypatch: pytest.MonkeyPatch):
    explained = []

    def outputs(_net: object, recordings: list[list[np.ndarray]]) -> list[torch.Tensor]:
        assert len(recordings[0]) <= listening.JUDGED
        return [torch.tensor([[float(view.mean()), 0.0] for view in recordings[0]])]

    def relevance(_predictor: Predictor, spectrogram: np.ndarray, label: str) -> np.ndarray:
        explained.append(len(spectrogram))
        return np.full(spectrogram.shape, 0.5)

    monkeypatch.setattr(listening, "outputs_of", outputs)
    monkeypatch.setattr(listening, "relevance", relevance)
    hop_s = predictor.config.spectrogram.hop_s
    long = np.zeros((round(600 / hop_s), 32), np.float16)
    telling = slice(round(400 / hop_s), round(410 / hop_s))
    long[telling] = 1
    result = listening._relevance(predictor, long, "murmur")
    assert result.shape == long.shape
    assert (result[telling.start : telling.start + 64] > 0).all()
    assert np.count_nonzero(result.any(axis=1)) == explained.pop() == round(listening.EXPLAINED_S / hop_s)
    short = long[: round(20 / hop_s)]
    assert listening._relevance(predictor, short, "murmur").all()
    assert explained == [len(short)]


def test_clips_are_of_what_can_be_read_and_the_rest_says_why_not(predictor: Predictor, tmp_path: Path):
    good = write_wav(tmp_path / "good.wav", beats())
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    files = {"c": good, "q0": good, "q1": broken, "q2": tmp_path / "gone.wav", "q3": good}
    listed = recordings(list(files), uri=[str(path) for path in files.values()])
    listed.loc[0, "sha256"] = sha256_file(good)
    listed.loc[4, "sha256"] = "0" * 64
    listed = pd.concat([listed, recordings(["q4"], missing="there is no file")])
    rows = predictions().query("recording_id == 'c'").reset_index(drop=True)
    refused = quarantine(["silent", "undecodable", "silent", "silent", "no_file"])
    shown = chapters(rows, refused, listed, suspects(rows), CLASSES, 0.0)
    assert clips_to_make(shown) == 6
    done: list[int] = []
    mistakes, _, suspected, quarantined = with_clips(shown, predictor, done.append)
    assert done == [1, 2, 3, 4, 5, 6]
    assert mistakes.entries[0].clip == suspected.entries[0].clip
    assert mistakes.entries[0].clip.duration_s == 5.0
    problems = {entry.recording_id: entry.problem for entry in quarantined.entries}
    assert problems["q0"] == ""
    assert "cannot be decoded" in problems["q1"]
    assert "No such file" in problems["q2"]
    assert "changed during the run" in problems["q3"]
    assert problems["q4"] == "There is no file."
