"""Predictions for a folder or table: each content once a model, a row for each recording, and nothing lost to a killed run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import REAL, beats, needs_pascal, write_wav
from untrained import registered, untrained

from flows.score import score
from heartdata.config import RegistryConfig
from heartdata.config_file import build_config
from heartdata.errors import HeartbeatError, SourceError
from heartdata.serving import files
from heartdata.serving.predictor import Predictor
from heartdata.storage.store import Store, sha256_file
from tasks import score as scores
from tasks.engine import progress

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, a copy of one, and two files that cannot be predicted, in nested folders that are no classes."""
    folder = tmp_path / "new"
    a = write_wav(folder / "a.wav", beats(70))
    write_wav(folder / "ward 1" / "b.wav", beats(80, duration_s=2))
    (folder / "ward 1" / "copy of a.wav").write_bytes(a.read_bytes())
    (folder / "bad.wav").write_bytes(b"no sound")
    (folder / "link.wav").symlink_to(folder / "absent")
    return folder


@pytest.fixture
def model_store(registry_store: Store) -> Store:
    registered(registry_store, untrained(registry_store))
    return registry_store


@pytest.fixture
def predicted(monkeypatch) -> list[int]:
    """The number of contents in each call of `Predictor.predict` from here on."""
    sizes: list[int] = []
    original = Predictor.predict

    def counting(self, contents):
        each = list(contents)
        sizes.append(len(each))
        return original(self, each)

    monkeypatch.setattr(Predictor, "predict", counting)
    return sizes


def run(store: Store, data: Path, out: Path, **options) -> pd.DataFrame:
    """The rows that the flow writes, by recording."""
    config = build_config("table", str(data), changes={"store": store.uri, **options.pop("changes", {})})
    scored = score(config, data=str(data), out=str(out), **options)
    frame = pd.read_parquet(out)
    assert scored.recordings == len(frame)
    return frame.set_index("recording_id")


def test_a_folder_is_predicted_once_and_what_is_new_or_changed_again(
    model_store: Store, folder: Path, tmp_path: Path, predicted: list[int]
):
    out = tmp_path / "out" / "p.parquet"
    out.parent.mkdir()
    first = run(model_store, folder, out)
    assert sum(predicted) == 3  # a, b and bad: one file has two names, one is a broken link
    assert sorted(first.index) == ["a.wav", "bad.wav", "link.wav", "ward 1/b.wav", "ward 1/copy of a.wav"]
    assert first["prediction"].isna().to_dict() == {
        "a.wav": False, "bad.wav": True, "link.wav": True, "ward 1/b.wav": False, "ward 1/copy of a.wav": False,
    }  # fmt: skip
    assert "cannot be decoded" in first.loc["bad.wav", "error"]
    assert "broken link" in first.loc["link.wav", "error"]
    assert first["unsure"].isna().equals(first["error"].notna())
    assert not (first["unsure"] == False).reindex(["bad.wav", "link.wav"]).any()  # noqa: E712 (who trusts what is not unsure)
    assert first.loc["ward 1/b.wav", "warnings"] == "short"
    assert first.loc["a.wav", "heart_rate_bpm"] > 0
    assert np.isnan(first.loc["bad.wav", "heart_rate_bpm"])
    assert first[["p_murmur", "p_normal"]].sum(axis=1)["a.wav"] == pytest.approx(1)
    assert (first["model"] == "models:/heartbeat/1").all()
    assert first["model_digest"].nunique() == 1
    assert not {"label", "subject", "site", "collection"} & set(first.columns)
    a, copy = first.loc["a.wav"].drop("file"), first.loc["ward 1/copy of a.wav"].drop("file")
    pd.testing.assert_series_equal(a, copy, check_names=False)

    predicted.clear()
    assert run(model_store, folder, out).equals(first)
    assert predicted == []

    write_wav(folder / "c.wav", beats(90))
    write_wav(folder / "ward 1" / "b.wav", beats(85))
    assert len(run(model_store, folder, out)) == 6
    assert sum(predicted) == 2

    predicted.clear()
    registered(model_store, untrained(model_store, seed=1))
    second = run(model_store, folder, out)
    assert sum(predicted) == 4
    assert (second["model"] == "models:/heartbeat/2").all()
    assert second["model_digest"].iloc[0] != first["model_digest"].iloc[0]
    assert abs(second["p_murmur"]["a.wav"] - first["p_murmur"]["a.wav"]) > 1e-4
    predicted.clear()
    assert run(model_store, folder, out, model="models:/heartbeat/1")["p_murmur"]["a.wav"] == first["p_murmur"]["a.wav"]
    assert predicted == []


def test_a_killed_run_is_resumed(model_store: Store, folder: Path, tmp_path: Path, predicted: list[int], monkeypatch):
    monkeypatch.setattr(files, "BATCH_FILES", 1)
    monkeypatch.setattr(scores, "KEEP_EVERY_S", 0.0)
    original = Predictor.predict

    def killed(self, contents):
        if len(predicted) == 2:
            raise KeyboardInterrupt
        return original(self, contents)

    predictor = scores.scoring_model.fn(None, RegistryConfig(), model_store)[1]
    paths = [folder / "bad.wav", folder / "a.wav", folder / "ward 1" / "b.wav"]
    new = {sha256_file(path): str(path) for path in paths}
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "predict", killed)
        with pytest.raises(KeyboardInterrupt):
            list(scores.predict_new(predictor, new, model_store))
    assert set(scores.kept_scores(predictor, model_store)["sha256"]) == set(list(new)[:2])
    (damaged,) = list((model_store.root / scores.scores_folder(predictor.digest)).iterdir())[:1]
    damaged.write_bytes(b"PAR1")
    predicted.clear()
    run(model_store, folder, tmp_path / "p.parquet")
    assert sum(predicted) == 2  # the one that was not reached, and one whose table is damaged


def test_a_challenger_that_predicts_for_want_of_a_champion_is_noted(
    model_store: Store, folder: Path, tmp_path: Path, caplog
):
    progress.clear_notes()
    run(model_store, folder, tmp_path / "named.parquet", model="models:/heartbeat@challenger")
    assert not [text for text in progress.notes() if "champion" in text]
    run(model_store, folder, tmp_path / "chosen.parquet")
    assert len([text for text in progress.notes() if "has no champion: this is its challenger" in text]) == 1
    assert "has no champion" in caplog.text


def test_tables_need_no_labels_and_keep_those_they_have(model_store: Store, folder: Path, tmp_path: Path):
    out = tmp_path / "p.parquet"
    table = tmp_path / "list.csv"
    table.write_text("recording file,patient\nnew/a.wav,7\nnew/ward 1/b,8\nnew/nowhere.wav,8\n")
    rows = run(model_store, table, out, changes={"source.columns.path": "recording file"})
    assert rows["subject"].tolist() == ["7", "8", "8"]
    assert "there is no file" in rows.loc["new/nowhere.wav", "error"]
    assert rows["error"].isna().sum() == 2
    table.write_text("file,label\nnew/a.wav,murmur\nnew/ward 1/b.wav,\n")
    assert run(model_store, table, out)["label"].fillna("").tolist() == ["murmur", ""]
    table.write_text("label\nmurmur\n")
    with pytest.raises(SourceError, match="no path column"):
        run(model_store, table, out)


def test_where_nothing_can_be_predicted_the_reasons_are_written_and_it_is_an_error(model_store: Store, tmp_path: Path):
    (tmp_path / "new").mkdir()
    with pytest.raises(SourceError, match="holds no audio file"):
        run(model_store, tmp_path / "new", tmp_path / "p.parquet")
    (tmp_path / "new" / "a.wav").write_bytes(b"")
    with pytest.raises(HeartbeatError, match="none of the 1 recordings has a prediction .*the file is empty"):
        run(model_store, tmp_path / "new", tmp_path / "p.parquet")
    assert pd.read_parquet(tmp_path / "p.parquet")["error"].notna().all()


def test_a_file_that_cannot_be_read_is_tried_again_and_then_a_row(
    model_store: Store, folder: Path, tmp_path: Path, monkeypatch
):
    original, tries = files.read_bytes, []

    def failing(uri, sha256=None):
        if uri.endswith("b.wav"):
            tries.append(uri)
            raise OSError(5, "Input/output error")
        return original(uri, sha256)

    monkeypatch.setattr(files, "read_bytes", failing)
    monkeypatch.setattr(scores, "score", scores.score.with_options(retry_delay_seconds=0))
    rows = run(model_store, folder, tmp_path / "p.parquet")
    assert len(tries) == 1 + scores.RETRIES
    assert "Input/output error" in rows.loc["ward 1/b.wav", "error"]
    assert rows["error"].isna().sum() == 2
    monkeypatch.undo()
    assert run(model_store, folder, tmp_path / "p.parquet")["error"].isna().sum() == 3


@needs_pascal
@pytest.mark.data
def test_real_recordings(model_store: Store, tmp_path: Path):
    chosen = sorted((REAL / "pascal" / "set_a").glob("*.wav"))[:6]
    table = tmp_path / "list.csv"
    pd.DataFrame({"file": list(map(str, chosen))}).to_csv(table, index=False)
    rows = run(model_store, table, tmp_path / "p.parquet")
    assert rows["error"].isna().all()
    assert rows["heart_rate_bpm"].dropna().between(30, 200).all()
