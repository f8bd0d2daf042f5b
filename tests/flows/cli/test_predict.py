"""`heartbeat predict` with a model that needs no training, and checks of output paths."""

import os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import beats, write_wav

from flows.cli import predict
from flows.cli.options import absolute
from flows.cli.study import run_study
from heartdata.config import RunConfig
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.serving import explain, files
from heartdata.serving.predictor import Prediction

CLASSES = ("murmur", "normal")
NORMAL = Prediction("normal", False, (0.1, 0.9), ("short",), 71.6)
REWEIGHTED = Prediction("murmur", False, (0.4, 0.6))
UNSURE = Prediction("normal", True, (0.45, 0.55))
REFUSED = BadAudio("too short")


def predictor(predictions: list, batches: list):
    """A stand-in for `Predictor` that returns ``predictions``."""

    def predict_contents(contents):
        batch = list(contents)
        batches.append(batch)
        return predictions[: len(batch)]

    config = SimpleNamespace(classes=CLASSES, calibration=Calibration(), spectrogram=None)
    return SimpleNamespace(predict=predict_contents, config=config, digest="0123456789ab")


def frame_of(predictions: list) -> pd.DataFrame:
    batch = [files.FileContent(name, b"x") for name in "abc"[: len(predictions)]]
    return files.predict_batch(predictor(predictions, []), batch)


@pytest.fixture
def classify(monkeypatch, capsys, tmp_path: Path):
    """Classify two files with a model of known predictions; returns the output. ``batches``: what the model received."""
    paths, batches = [write_wav(tmp_path / f"{name}.wav", beats()) for name in "ab"], []

    def run(
        predictions: list, out: Path | None = None, pictures: Path | None = None, folder: Path | None = None
    ) -> str:
        loaded = predictor(predictions, batches)
        monkeypatch.setattr(predict, "find_version", lambda *_: ("models:/m/1", ""))
        monkeypatch.setattr(predict, "load_model", lambda *_: ("models:/m@challenger", loaded))
        monkeypatch.setattr(predict, "refuse_empty_registry", lambda *_: None)
        monkeypatch.setattr(predict, "prepare_environment", lambda store: None)
        predict.predict_files(
            [folder] if folder else paths, None, out, RunConfig(store=str(tmp_path / "store")), pictures
        )
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
    assert [len(batch) for batch in classify.batches] == [2]
    rows = pd.read_csv(tmp_path / "x.csv")
    assert [Path(file).name for file in rows["file"]] == ["a.wav", "b.wav"]
    assert rows["label"].isna().tolist() == [True, False]
    for bound in ("BATCH_FILES", "BATCH_BYTES"):
        classify.batches.clear()
        with monkeypatch.context() as patched:
            patched.setattr(files, bound, 1)
            classify([NORMAL, NORMAL])
        assert [len(batch) for batch in classify.batches] == [1, 1]


def test_a_file_that_cannot_be_read_has_a_row_of_its_own(classify, tmp_path: Path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe.wav")
    assert [files.read_file(str(tmp_path / name)).error for name in ("link.wav", "pipe.wav")] == [
        "cannot be read (it is a broken link): correct the path and run again",
        "it is no file: name a file",
    ]
    (tmp_path / "b.wav").unlink()
    os.mkfifo(tmp_path / "b.wav")
    assert "it is no file" in classify([NORMAL])
    assert [len(batch) for batch in classify.batches] == [1]


def test_only_columns_that_say_something_are_shown():
    assert list(predict.shown(frame_of([REWEIGHTED, REWEIGHTED]))[0]) == [
        "file", "label", "probability", "most probable",
    ]  # fmt: skip
    rows = predict.shown(frame_of([NORMAL, UNSURE, REFUSED]))
    assert rows[0] == {
        "file": "a", "label": "normal", "probability": "0.90", "heart rate": "72", "warnings": "short",
    }  # fmt: skip
    assert [row["label"] for row in rows] == ["normal", "unsure (normal)"]  # errors are listed below


def test_files_of_a_folder_are_named_from_it_on_and_errors_are_listed_below(classify, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = classify([NORMAL, REFUSED], tmp_path / "out" / "x.csv", folder=tmp_path)
    assert "a.wav normal 0.90" in said
    assert "1 of 2 files have no prediction: b.wav: too short" in said
    assert pd.read_csv(tmp_path / "out" / "x.csv")["file"].tolist() == [str(tmp_path / f"{name}.wav") for name in "ab"]


def test_unsure_and_labels_that_are_not_the_most_probable_class_are_explained():
    calibration = Calibration(unsure_below=0.6, class_weights=(2.0, 1.0))
    assert predict.explained(frame_of([NORMAL, REFUSED]), Calibration(), CLASSES) == []
    unsure, other = predict.explained(frame_of([REWEIGHTED, UNSURE]), calibration, CLASSES)
    assert "below 0.60" in unsure
    assert other.startswith("1 labels are not the most probable class")
    assert "(murmur 2.00, normal 1.00)" in other
    assert frame_of([REWEIGHTED, REFUSED])["most_probable"].tolist() == ["normal", None]


def test_pictures_have_names_of_their_own():
    names = predict.picture_names([Path("1/x.wav"), Path("2/X.wav"), Path("3/x y.wav"), Path(".."), Path("é" * 300)])
    assert names == ["x.wav.png", "X.wav-2.png", "x_y.wav.png", "recording.png", f"{'é' * 50}.png"]


def test_each_recording_that_has_a_prediction_has_a_picture(classify, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(explain, "explain", lambda *_: SimpleNamespace(explained="normal"))
    monkeypatch.setattr("heartdata.reports.explanation.plot_explanation", lambda *_: b"PNG")
    said = classify([REFUSED, NORMAL], tmp_path / "x.json", tmp_path / "why")
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["b.wav.png"]
    assert pd.read_json(tmp_path / "x.json")["picture"].fillna("").tolist() == ["", str(tmp_path / "why" / "b.wav.png")]
    assert f"Pictures {tmp_path / 'why'}" in said


@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_a_table_is_for_another_command(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    with pytest.raises(HeartbeatError, match="is a table: predict its recordings with `heartbeat score"):
        predict._files_of(tmp_path / name)


def test_the_home_of_an_unknown_user_is_refused():
    with pytest.raises(HeartbeatError, match="names an unknown user"):
        absolute("~nosuchuser/x.csv")
