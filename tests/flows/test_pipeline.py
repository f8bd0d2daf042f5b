"""The whole flow on made sounds: what it leaves behind, and what a second run does and does not do again."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import Heard, beats, registry, tiny
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

import heartdata.audio.measurements
import heartdata.dataset.spectrogram_shards
import heartdata.training.train
from flows.cli import predict
from flows.pipeline import heartbeat
from heartdata.config import RunConfig
from heartdata.errors import ConfigError, DataRefused, HeartbeatError
from heartdata.sources.demo import DemoSource
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact
from tasks.engine import progress

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("whole")
    yield store
    shutil.rmtree(store)  # a gigabyte


@pytest.fixture(scope="module")
def first(root: Path, prefect_server):
    progress.begin()
    return heartbeat(tiny(root))


@pytest.fixture
def work(monkeypatch) -> Counter:
    """Counts files measured, files rendered and networks trained from here on."""
    counts: Counter = Counter()
    measure_file, render = heartdata.audio.measurements.measure_file, heartdata.dataset.spectrogram_shards._render

    def counting_measure(*args):
        counts["measured"] += 1
        return measure_file(*args)

    def counting_render(*args):
        counts["rendered"] += 1
        return render(*args)

    def counting_train(*args):
        counts["trained"] += 1
        return real_train(*args)

    real_train = heartdata.training.train.train
    monkeypatch.setattr(heartdata.audio.measurements, "measure_file", counting_measure)
    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "_render", counting_render)
    monkeypatch.setattr(heartdata.training.train, "train", counting_train)
    return counts


def challenger(root: Path) -> int:
    return int(registry(root).get_model_version_by_alias("heartbeat-demo", "challenger").version)


def test_every_planted_fault_is_caught(first):
    assert len(first.planted) == 7
    assert all(row["caught"] for row in first.planted)


def test_summary_counts_add_up(first, root: Path):
    by_label = {row["label"]: row for row in first.recordings}
    assert by_label["all"]["found"] == 4 * 3 + 8
    assert all(row["found"] == row["accepted"] + row["quarantined"] for row in first.recordings)
    manifest = pd.read_parquet(root / "latest" / "manifest.parquet")
    assert sum(row["recordings"] for row in first.subjects) == len(manifest) == by_label["all"]["in use"]
    assert manifest.groupby("group")["part"].nunique().max() == 1
    assert list(manifest.columns) == MANIFEST.names


def test_files_for_people_are_there(first, root: Path):
    names = {path.name for path in (root / "latest").iterdir()}
    assert {"quarantine.csv", "confusion_matrix.png", "roc.png", "training_curves.png", "spectrograms.png"} <= names
    assert Path(first.data_docs).is_file()
    page = (root / "latest" / "summary.md").read_text()
    assert "not a medical device" in page
    assert f"(while `heartbeat up --store {root}` runs)" in page


def test_a_refused_run_says_so_until_the_next_good_one(first, root: Path, caplog):
    page = root / "latest" / "summary.md"
    good = page.read_text()
    with pytest.raises(DataRefused):
        heartbeat(tiny(root, validation__min_recordings=1000))
    assert page.read_text().startswith("# The last run was refused: source demo, 2")
    assert "1000 are needed" in page.read_text().splitlines()[2]
    assert page.read_text().endswith(good)
    told = [r for r in caplog.records if r.name.startswith("prefect.") and "1000 are needed" in r.getMessage()]
    assert told
    assert not [r for r in told if r.exc_info]
    heartbeat(tiny(root))
    assert page.read_text().startswith("# demo: heartbeat-demo version 1")


def test_registry_holds_the_run_whole(first, root: Path):
    found = registry(root)
    version = found.get_model_version_by_alias("heartbeat-demo", "challenger")
    assert int(version.version) == first.model_version == 1
    run = found.get_run(version.run_id)
    assert run.data.params["spectrogram.mel_bands"] == "32"
    assert run.data.tags["dataset_version"] == first.dataset_version == version.tags["dataset_version"]
    accepted = Artifact.model_validate_json(version.tags["heartbeat.accepted"])
    assert pd.read_parquet(root / accepted.name)["recording_id"].nunique() == accepted.rows
    assert (root / version.tags["heartbeat.series"]).is_file()
    assert run.data.tags["prefect.flow_run_id"]
    assert [point.step for point in found.get_metric_history(version.run_id, "train_loss")] == [1]
    assert run.data.metrics["kept_epoch"] == 1  # of 1: people count from one
    assert {s["metric"] for s in first.scores} == {"macro_f1", "balanced_accuracy", "accuracy", "auroc"}
    assert {"test_brier", "test_ece_10_bins", "test_coverage"} <= set(run.data.metrics)
    assert run.data.metrics["test_macro_f1"] == pytest.approx(first.scores[0]["value"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["temperature"] > 0
    assert run.data.metrics["class_weight.murmur"] > 0
    assert {f.path for f in found.list_artifacts(version.run_id, "tables")} == {
        f"tables/{name}.parquet" for name in ("recordings", "manifest", "predictions", "subjects")
    }
    assert "plots/roc.png" in {f.path for f in found.list_artifacts(version.run_id, "plots")}
    assert run.data.tags["data_docs"] == first.data_docs
    assert len(run.inputs.dataset_inputs) == 3
    assert run.data.metrics["test_f1.murmur"] == pytest.approx(float(first.per_class[2]["f1"]), abs=1e-3)
    assert [row["label"] for row in first.per_class] == ["artifact", "extrasystole", "murmur", "normal"]
    assert sum(row["recordings"] for row in first.per_class) == first.subjects[-1]["recordings"]


def test_registered_model_takes_audio_bytes(first, root: Path, monkeypatch, tmp_path: Path):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    registry(root)
    model = mlflow.pyfunc.load_model("models:/heartbeat-demo@challenger")
    good = tmp_path / "good.flac"
    soundfile.write(good, beats(), 4000)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(4000, np.nan, np.float32), 4000, subtype="FLOAT")
    answers = model.predict(pd.DataFrame({"audio": [good.read_bytes(), b"no audio", nan.read_bytes()]}))
    probabilities = [c for c in answers.columns if c.startswith("p_")]
    assert answers.loc[0, probabilities].sum() == pytest.approx(1)
    assert f"p_{answers.loc[0, 'label']}" in probabilities
    assert answers["unsure"].tolist()[1:] == [True, True]  # of what is no recording
    assert answers["error"].isna().tolist() == [True, False, False]
    assert "not numbers" in answers.loc[2, "error"]


def test_predict_asks_the_registered_model_for_files_and_folders(
    first, root: Path, monkeypatch, capsys, tmp_path: Path
):
    folder, out = tmp_path / "new", tmp_path / "answers" / "all.csv"
    folder.mkdir()
    soundfile.write(folder / "good.flac", beats(), 4000)
    (folder / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "empty").mkdir()

    monkeypatch.setattr(predict, "prepare", lambda store: None)  # this process has its settings
    run = RunConfig(store=str(root))
    predict.predict_files([folder, folder / "good.flac"], None, out, run)
    told = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 files have no answer" in told
    assert re.search(
        r"On its validation recordings \d+% of this model's answers were not unsure, and of these \d+%", told
    )
    rows = pd.read_csv(out)
    assert "Answers of models:/heartbeat-demo/" in told
    assert rows["model"].str.fullmatch(r"models:/heartbeat-demo/\d+").all()
    assert [Path(file).name for file in rows["file"]] == ["broken.wav", "good.flac", "good.flac"]
    assert rows["error"].notna().tolist() == [True, False, False]
    probabilities = rows[[c for c in rows.columns if c.startswith("p_")]]
    assert probabilities.loc[1].sum() == pytest.approx(1)
    assert probabilities.loc[1].equals(probabilities.loc[2].rename(1))
    with pytest.raises(HeartbeatError, match=r"absent\.wav does not exist"):
        predict.predict_files([tmp_path / "absent.wav"], None, None, run)
    with pytest.raises(HeartbeatError, match="holds no audio file"):
        predict.predict_files([tmp_path / "empty"], None, None, run)
    there = "'models:/no@challenger' is not in the registry.*there are: models:/heartbeat-demo@challenger"
    with pytest.raises(HeartbeatError, match=there):
        predict.predict_files([folder], "models:/no@challenger", None, run)
    nowhere = tmp_path / "nowhere"
    with pytest.raises(HeartbeatError, match=r"no model is registered in .*nowhere yet"):
        predict.predict_files([folder], None, None, RunConfig(store=str(nowhere)))
    assert not nowhere.exists()


def test_no_pickle_in_the_model(first, root: Path):
    files = [p for p in (root / "mlflow-artifacts").rglob("*") if p.is_file()]
    assert any(p.suffix == ".safetensors" for p in files)
    assert not [p for p in files if p.suffix in (".pkl", ".pt", ".pth")]


ALWAYS = {
    "inventory", "find facts", "gather facts", "last accepted", "accept", "find spectrograms", "gather spectrograms",
    "initial weights", "summary",
}  # fmt: skip


def task_states(run_name: str) -> dict[str, set[str]]:
    """Names of the states that the tasks of the newest run of this flow ended in, by task."""
    with get_client(sync_client=True) as prefect:
        newest = prefect.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=20)
        flow_run = next(r for r in newest if prefect.read_flow(r.flow_id).name == run_name)
        within = [flow_run.id, *(r.id for r in newest if r.parent_task_run_id and r.start_time >= flow_run.start_time)]
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=within))
        states: dict[str, set[str]] = {}
        for task_run in prefect.read_task_runs(flow_run_filter=wanted):
            states.setdefault(task_run.name.rsplit("-", 1)[0], set()).add(task_run.state_name)
        return states


def test_nothing_changed_does_no_work_twice(first, root: Path, work: Counter):
    again = heartbeat(tiny(root))
    assert not work
    assert again.model_version == 1
    states = task_states("heartbeat")
    assert states.keys() >= {"validate", "split", "manifest", "train", "register"}
    assert not states.keys() & {"measure shard", "spectrogram shard"}  # they stand: no task, no cost
    assert {name for name, ended in states.items() if ended != {"Cached"}} <= ALWAYS | {"measure", "spectrograms"}
    assert len(registry(root).search_model_versions("name = 'heartbeat-demo'")) == 1


def test_training_setting_renders_nothing(first, root: Path, work: Counter):
    second = heartbeat(tiny(root, training__seed=1))
    assert work == {"trained": 1}
    assert second.dataset_version == first.dataset_version
    assert second.model_version == 2


def test_going_back_to_earlier_settings_makes_that_version_the_challenger(first, root: Path, work: Counter):
    later = heartbeat(tiny(root, training__seed=1)).model_version
    assert challenger(root) == later != first.model_version
    work.clear()
    display = Heard()
    progress.begin(display)
    back = heartbeat(tiny(root))
    assert back.model_version == first.model_version
    assert [note for note in back.notes if "goes back from version" in note]
    progress.begin()
    assert challenger(root) == first.model_version
    assert not work
    told = f"heartbeat-demo@challenger goes back from version {later} to {first.model_version}"
    assert any(told in remark for remark in display.remarks)


def test_scores_on_other_held_out_subjects_are_said_not_to_compare(first, root: Path):
    again = heartbeat(tiny(root, training__seed=1))
    assert not [note for note in again.notes if "do not compare" in note]
    other = heartbeat(tiny(root, split__seed=1))
    (note,) = [note for note in other.notes if "do not compare" in note]
    assert f"those of version {other.model_version - 1}: " in note


def test_training_starts_from_a_registered_model(first, root: Path, work: Counter):
    heartbeat(tiny(root, training__init=f"models:/heartbeat-demo/{first.model_version}", training__frozen_epochs=0))
    assert work == {"trained": 1}
    newest = registry(root).get_model_version_by_alias("heartbeat-demo", "challenger")
    assert int(newest.version) > first.model_version
    assert registry(root).get_run(newest.run_id).data.tags["init"] == f"models:/heartbeat-demo/{first.model_version}"
    with pytest.raises(ConfigError, match="is not in the registry"):
        heartbeat(tiny(root, training__init="models:/heartbeat-demo/999"))


def test_spectrogram_setting_measures_nothing(first, root: Path, work: Counter):
    other = heartbeat(tiny(root, spectrogram__high_hz=500.0))
    assert work["measured"] == 0
    assert work["rendered"] == other.recordings[-1]["in use"]
    assert other.dataset_version != first.dataset_version


def test_lost_and_damaged_files_are_made_again(first, root: Path, work: Counter):
    before = pd.read_parquet(root / "manifest" / f"{first.dataset_version[:20]}.parquet")
    lost, damaged = sorted(before["shard"].unique())[:2]
    content = (root / damaged).read_bytes()
    (root / lost).unlink()
    (root / damaged).write_bytes(content[:-7] + b"damaged")
    again = heartbeat(tiny(root))
    assert work == {"rendered": int(before["shard"].isin([lost, damaged]).sum())}
    assert (root / damaged).read_bytes() == content
    assert again.model_version == first.model_version


def test_new_recordings_redo_only_their_shards(root: Path, first, work: Counter, tmp_path: Path):
    from heartdata.config_file import build_config

    listing = DemoSource(subjects_per_class=3, sites=1, duration_s=(2.0, 3.0)).listing(root / "made")
    rows = [{"path": str(r.path), "label": r.label, "subject": r.subject} for r in listing.recordings if not r.extra]
    changes = {k: v for k, v in tiny(root).model_dump(mode="json").items() if k not in ("source", "split")}
    table = tmp_path / "table.csv"

    def run(listed: list[dict]):
        pd.DataFrame(listed).to_csv(table, index=False)
        return heartbeat(build_config("table", str(table), changes=changes))

    before = run(rows)
    work.clear()
    moved = tmp_path / "moved"
    shutil.copytree(listing.recordings[0].path.parent, moved)
    for row in rows:  # all recordings lie elsewhere now, under the names that the table had
        row["path"] = Path(row["path"]).name
    table = moved / "table.csv"
    names = run(rows)
    assert names.model_version > before.model_version  # other recording ids make another data set
    work.clear()
    shutil.move(moved, tmp_path / "moved again")
    table = tmp_path / "moved again" / "table.csv"
    assert run(rows).model_version == names.model_version
    assert not work
    new = tmp_path / "new recording ü.wav"
    soundfile.write(new, beats(90, 3.0, seed=7), 4000)
    run([*rows, {"path": str(new), "label": "normal", "subject": "new"}])
    assert work["measured"] == 1
    assert work["rendered"] == 1
