"""`heartbeat predict` with a model that needs no training, and checks of output paths."""

import os
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
REWEIGHTED = {"label": "murmur", "unsure": False, "error": None, "p_murmur": 0.4, "p_normal": 0.6}
REFUSED = {"label": None, "unsure": True, "error": "too short", "p_murmur": float("nan"), "p_normal": float("nan")}


@pytest.fixture
def classify(monkeypatch, capsys, tmp_path: Path):
    """Classify two files with a model of known predictions; returns the output. ``batches``: what the model received."""
    files, batches = [write_wav(tmp_path / f"{name}.wav", beats()) for name in "ab"], []

    def run(predictions: list[dict], out: Path | None = None) -> str:
        def model_predict(frame: pd.DataFrame) -> pd.DataFrame:
            batches.append(frame)
            return pd.DataFrame(predictions[: len(frame)], dtype=object)

        config = SimpleNamespace(predictor=SimpleNamespace(config=SimpleNamespace(calibration=Calibration())))
        model = SimpleNamespace(predict=model_predict, unwrap_python_model=lambda: config)
        monkeypatch.setattr(predict, "load_model", lambda *_: ("models:/m@challenger", model))
        monkeypatch.setattr(predict, "is_empty", lambda *_: False)
        monkeypatch.setattr(predict, "prepare_environment", lambda store: None)
        predict.predict_files(files, None, out, RunConfig(store=str(tmp_path / "store")))
        return " ".join(capsys.readouterr().out.split())

    run.batches = batches
    return run


def test_an_output_that_cannot_be_written_is_refused_before_predicting(classify, tmp_path: Path):
    (tmp_path / "way").write_text("")
    for out, message in ((tmp_path, "is a folder: name a file"), (tmp_path / "way" / "x.csv", "cannot write to")):
        with pytest.raises(HeartbeatError, match=message):
            classify([NORMAL, NORMAL], out)
    assert not classify.batches
    classify([NORMAL, NORMAL], tmp_path / "new" / "x.csv")
    assert len(pd.read_csv(tmp_path / "new" / "x.csv")) == 2


def test_a_study_whose_output_cannot_be_written_does_not_start(tmp_path: Path):
    (tmp_path / "way").write_text("")
    with pytest.raises(HeartbeatError, match="cannot write to"):
        run_study("pascal-b", str(tmp_path), None, {"store": str(tmp_path / "s")}, None, tmp_path / "way" / "x", False)
    assert not (tmp_path / "s").exists()


def test_files_of_a_folder_that_are_no_audio_are_counted(tmp_path: Path):
    for name in ("a.wav", "b.webm", "c.docx", "d.txt", "._a.wav"):
        (tmp_path / name).touch()
    files, notes = predict._files_of(tmp_path)
    assert [file.name for file in files] == ["a.wav", "b.webm"]
    assert notes[0].endswith("1 .docx, 1 .txt")
    (tmp_path / "a.wav").unlink()
    (tmp_path / "b.webm").unlink()
    with pytest.raises(HeartbeatError, match="holds no audio file.*1 .docx"):
        predict._files_of(tmp_path)


def test_it_is_an_error_if_every_file_is_refused(classify, capsys):
    with pytest.raises(HeartbeatError, match="none of the 2 files has a prediction; the first: too short"):
        classify([REFUSED, REFUSED])
    assert "2 of 2 files have no prediction" in capsys.readouterr().out
    assert "1 of 2 files have no prediction" in classify([REFUSED, NORMAL])


def test_files_are_predicted_in_batches_that_fit_into_memory(classify, tmp_path: Path, monkeypatch):
    classify([REFUSED, NORMAL], tmp_path / "x.csv")
    assert [len(frame) for frame in classify.batches] == [2]
    rows = pd.read_csv(tmp_path / "x.csv")
    assert [Path(file).name for file in rows["file"]] == ["a.wav", "b.wav"]
    assert rows["label"].isna().tolist() == [True, False]
    for bound in ("BATCH_FILES", "BATCH_BYTES"):
        classify.batches.clear()
        with monkeypatch.context() as patched:
            patched.setattr(predict, bound, 1)
            classify([NORMAL, NORMAL])
        assert [len(frame) for frame in classify.batches] == [1, 1]


def test_a_file_that_cannot_be_read_has_a_row_of_its_own(classify, tmp_path: Path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe.wav")
    (batch,) = predict._batches([tmp_path / "link.wav", tmp_path / "pipe.wav"])
    assert [error for *_, error in batch] == [
        "cannot be read (it is a broken link): correct the path and run again",
        "it is no file: name a file",
    ]
    (tmp_path / "b.wav").unlink()
    os.mkfifo(tmp_path / "b.wav")
    assert "it is no file" in classify([NORMAL, REFUSED])


def test_the_most_probable_class_is_shown_where_it_is_not_the_label(classify):
    assert "most probable" not in classify([NORMAL, REFUSED])
    rows = predict.shown([{"file": "a", **NORMAL}, {"file": "b", **REWEIGHTED}, {"file": "c", **REFUSED}])
    assert [row["most probable"] for row in rows] == ["normal 0.90", "normal 0.60", ""]
    assert [row["probability"] for row in rows] == ["0.90", "0.40", ""]
    assert list(rows[0])[-1] == "error"


def test_the_home_of_an_unknown_user_is_refused():
    with pytest.raises(HeartbeatError, match="names an unknown user"):
        absolute("~nosuchuser/x.csv")
