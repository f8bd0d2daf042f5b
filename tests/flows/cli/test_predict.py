"""`heartbeat predict` and what commands write, by a model that needs no training."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import beats, write_wav

from flows.cli import predict
from flows.cli.main import absolute
from flows.cli.study import run_study
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import Calibration

NORMAL = {"label": "normal", "unsure": False, "error": None, "p_murmur": 0.1, "p_normal": 0.9}
WEIGHED = {"label": "murmur", "unsure": False, "error": None, "p_murmur": 0.4, "p_normal": 0.6}
NONE = {"label": None, "unsure": True, "error": "too short", "p_murmur": float("nan"), "p_normal": float("nan")}


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path: Path):
    """Ask a model that answers so for two files; gives what it was asked for and what stood in the terminal."""
    files, asked = [write_wav(tmp_path / f"{name}.wav", beats()) for name in "ab"], []

    def run(answers: list[dict], out: Path | None = None) -> str:
        def answer(frame: pd.DataFrame) -> pd.DataFrame:
            asked.append(frame)
            return pd.DataFrame(answers[: len(frame)], dtype=object)

        config = SimpleNamespace(predictor=SimpleNamespace(config=SimpleNamespace(calibration=Calibration())))
        model = SimpleNamespace(predict=answer, unwrap_python_model=lambda: config)
        monkeypatch.setattr(predict, "load_model", lambda *_: ("models:/m@challenger", model))
        monkeypatch.setattr(predict, "is_empty", lambda *_: False)
        monkeypatch.setattr(predict, "prepare", lambda store: None)
        predict.predict_files(files, None, out, RunConfig(store=str(tmp_path / "store")))
        return " ".join(capsys.readouterr().out.split())

    run.asked = asked
    return run


def test_an_output_that_cannot_be_written_is_told_before_the_first_answer(ask, tmp_path: Path):
    (tmp_path / "way").write_text("")
    for out, said in (
        (tmp_path, "is a folder: name a file"),
        (tmp_path / "way" / "x.csv", "nothing can be written to"),
    ):
        with pytest.raises(HeartbeatError, match=said):
            ask([NORMAL, NORMAL], out)
    assert not ask.asked
    ask([NORMAL, NORMAL], tmp_path / "new" / "x.csv")
    assert len(pd.read_csv(tmp_path / "new" / "x.csv")) == 2


def test_a_study_that_cannot_write_its_page_does_not_begin(tmp_path: Path):
    (tmp_path / "way").write_text("")
    with pytest.raises(HeartbeatError, match="nothing can be written to"):
        run_study("pascal-b", str(tmp_path), None, {"store": str(tmp_path / "s")}, None, tmp_path / "way" / "x", False)
    assert not (tmp_path / "s").exists()


def test_no_answer_at_all_is_an_error_after_the_table(ask, capsys):
    with pytest.raises(HeartbeatError, match="none of the 2 files has an answer; the first: too short"):
        ask([NONE, NONE])
    assert "2 of 2 files have no answer" in capsys.readouterr().out
    assert "1 of 2 files have no answer" in ask([NONE, NORMAL])


def test_files_are_asked_about_together_as_far_as_memory_allows(ask, tmp_path: Path, monkeypatch):
    ask([NONE, NORMAL], tmp_path / "x.csv")
    assert [len(frame) for frame in ask.asked] == [2]
    rows = pd.read_csv(tmp_path / "x.csv")
    assert [Path(file).name for file in rows["file"]] == ["a.wav", "b.wav"]
    assert rows["label"].isna().tolist() == [True, False]
    for bound in ("FILES_AT_ONCE", "BYTES_AT_ONCE"):
        ask.asked.clear()
        with monkeypatch.context() as patched:
            patched.setattr(predict, bound, 1)
            ask([NORMAL, NORMAL])
        assert [len(frame) for frame in ask.asked] == [1, 1]


def test_the_most_probable_class_is_shown_where_it_is_not_the_answer(ask):
    assert "most probable" not in ask([NORMAL, NONE])
    rows = predict.shown([{"file": "a", **NORMAL}, {"file": "b", **WEIGHED}, {"file": "c", **NONE}])
    assert [row["most probable"] for row in rows] == ["normal 0.90", "normal 0.60", ""]
    assert [row["probability"] for row in rows] == ["0.90", "0.40", ""]
    assert list(rows[0])[-1] == "why not"


def test_an_unknown_user_in_a_path_is_told_in_a_sentence():
    with pytest.raises(HeartbeatError, match="names a user whom this machine does not know"):
        absolute("~nosuchuser/x.csv")
