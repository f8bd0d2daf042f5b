"""The whole flow on synthetic recordings: its results, and which work a second run repeats."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import DisplayLog, beats, registry, tiny, wait_until
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

import heartdata.audio.measurements
import heartdata.dataset.spectrogram_shards
import heartdata.training.train
from flows.cli import predict
from flows.pipeline import heartbeat, prepare
from heartdata.config import RegistryConfig, RunConfig
from heartdata.config_file import build_config
from heartdata.errors import ConfigError, DataRefused, HeartbeatError
from heartdata.scoring.promotion import Decision
from heartdata.sources.demo import DemoSource
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store
from tasks.engine import progress
from tasks.train import initial_weights

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
    """Counts the files measured, the files rendered and the networks trained from here on."""
    counts: Counter = Counter()

    def count(name: str, module: object, function: str) -> None:
        original = getattr(module, function)

        def counting(*args):
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(module, function, counting)

    count("measured", heartdata.audio.measurements, "measure_file")
    count("rendered", heartdata.dataset.spectrogram_shards, "_render")
    count("trained", heartdata.training.train, "train")
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
    *_, of_all, _ = first.subjects
    assert sum(of_all[part] for part in ("train", "valid", "test")) == len(manifest) == by_label["all"]["in use"]
    assert manifest.groupby("group")["part"].nunique().max() == 1
    assert list(manifest.columns) == MANIFEST.names


def test_latest_holds_the_tables_plots_and_summary(first, root: Path):
    names = {path.name for path in (root / "latest").iterdir()}
    assert {"quarantine.csv", "confusion_matrix.png", "roc.png", "training_curves.png", "spectrograms.png"} <= names
    assert Path(first.data_docs).is_file()
    page = (root / "latest" / "summary.md").read_text()
    assert "not a medical device" in page
    assert re.search(rf"while `heartbeat up --set .* --set training.epochs=1 .*--store {root}` runs", page)
    assert Path(first.report).read_text().startswith("<!doctype html>")


def test_a_night_with_nothing_new_makes_no_report_and_keeps_corrections_that_were_filled_in(first, root: Path):
    corrections, made = root / "latest" / "corrections.csv", list((root / "report").iterdir())
    header = corrections.read_text(encoding="utf-8-sig").splitlines()[0]
    assert header == "recording,new_label,who,why,label,suggested,p_label,p_suggested,sha256"
    filled = f"{header}\na.wav,murmur,me,heard it,normal,murmur,0.1,0.9,\n"
    corrections.write_text(filled)
    heartbeat(tiny(root))
    assert corrections.read_text() == filled
    assert list((root / "report").iterdir()) == made
    corrections.write_text(f"{header}\n")
    heartbeat(tiny(root))
    assert task_states("heartbeat")["report"] == {"Cached"}


def test_the_served_model_predicts_every_test_recording_as_evaluation_did(first, root: Path):
    registry(root)
    expected = pd.read_parquet(root / "latest" / "predictions.parquet")
    uris = pd.read_parquet(root / "latest" / "recordings.parquet").set_index("recording_id")["uri"]
    audio = [Path(uris[recording]).read_bytes() for recording in expected["recording_id"]]
    model = mlflow.pyfunc.load_model("models:/heartbeat-demo@challenger")
    alone = pd.concat([model.predict(pd.DataFrame({"audio": [content]})) for content in audio])
    names = [name for name in expected.columns if name.startswith("p_")]
    for served in (model.predict(pd.DataFrame({"audio": audio})), alone):
        assert served["label"].tolist() == expected["prediction"].tolist()
        assert np.abs(served[names].to_numpy() - expected[names].to_numpy()).max() <= 1e-5


def test_the_registry_holds_everything_about_the_run(first, root: Path):
    client = registry(root)
    version = client.get_model_version_by_alias("heartbeat-demo", "challenger")
    assert int(version.version) == first.model_version == 1
    run = client.get_run(version.run_id)
    assert run.data.params["spectrogram.mel_bands"] == "32"
    assert run.data.tags["dataset_version"] == first.dataset_version == version.tags["dataset_version"]
    accepted = Artifact.model_validate_json(version.tags["heartbeat.accepted"])
    assert pd.read_parquet(root / accepted.name)["recording_id"].nunique() == accepted.rows
    assert (root / version.tags["heartbeat.series"]).is_file()
    assert run.data.tags["prefect.flow_run_id"]
    assert [point.step for point in client.get_metric_history(version.run_id, "train/train_loss")] == [1]
    assert run.data.metrics["train/kept_epoch"] == 1  # counted from 1
    assert {s["metric"] for s in first.scores} == {"macro_f1", "balanced_accuracy", "accuracy", "auroc"}
    assert {"test/brier", "test/ece_10_bins", "test/coverage", "test_baselines/metadata_only.macro_f1"} <= set(
        run.data.metrics
    )
    assert run.data.metrics["test/macro_f1"] == pytest.approx(first.scores[0]["value"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["tuned/temperature"] > 0
    assert run.data.metrics["tuned/class_weight.murmur"] > 0
    assert {f.path for f in client.list_artifacts(version.run_id, "tables")} == {
        "tables/metrics.json",
        *(f"tables/{name}.parquet" for name in ("recordings", "manifest", "predictions", "subjects", "slices")),
    }
    assert run.info.run_name.startswith("demo, macro-F1 ")
    card = client.download_artifacts(version.run_id, "model_card.md")
    assert version.description[:200] in Path(card).read_text()
    assert version.tags["macro_f1"].startswith(f"{first.scores[0]['value']:.3f}")
    assert {"report.html", "corrections.csv"} <= {f.path for f in client.list_artifacts(version.run_id)}
    assert "plots/roc.png" in {f.path for f in client.list_artifacts(version.run_id, "plots")}
    assert run.data.tags["data_docs"] == first.data_docs
    assert len(run.inputs.dataset_inputs) == 3
    assert run.data.metrics["test/by_class/f1.murmur"] == pytest.approx(float(first.per_class[2]["f1"]), abs=1e-3)
    assert [row["label"] for row in first.per_class] == ["artifact", "extrasystole", "murmur", "normal"]
    assert sum(row["recordings"] for row in first.per_class) == first.subjects[-2]["test"]


def test_the_decision_is_in_latest_and_with_the_version(first, root: Path):
    version = registry(root).get_model_version("heartbeat-demo", "1")
    assert first.decision.outcome == version.tags["promotion.outcome"] == "cannot decide"
    assert first.decision.challenger == 1
    assert Decision.model_validate_json((root / "latest" / "decision.json").read_text()) == first.decision
    assert first.decision.reason in (root / "latest" / "summary.md").read_text().replace("\\", "")


def test_the_registered_model_predicts_from_audio_bytes(first, root: Path, monkeypatch, tmp_path: Path):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    registry(root)
    model = mlflow.pyfunc.load_model("models:/heartbeat-demo@challenger")
    good = tmp_path / "good.flac"
    soundfile.write(good, beats(), 4000)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(4000, np.nan, np.float32), 4000, subtype="FLOAT")
    predictions = model.predict(pd.DataFrame({"audio": [good.read_bytes(), b"no audio", nan.read_bytes()]}))
    probabilities = [c for c in predictions.columns if c.startswith("p_")]
    assert predictions.loc[0, probabilities].sum() == pytest.approx(1)
    assert f"p_{predictions.loc[0, 'label']}" in probabilities
    assert predictions["unsure"].tolist()[1:] == [None, None]  # neither is a recording
    assert predictions["error"].isna().tolist() == [True, False, False]
    assert "not finite numbers" in predictions.loc[2, "error"]


def test_predict_classifies_files_and_folders(first, root: Path, monkeypatch, capsys, tmp_path: Path):
    folder, out = tmp_path / "new", tmp_path / "predictions" / "all.csv"
    folder.mkdir()
    soundfile.write(folder / "good.flac", beats(), 4000)
    (folder / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "empty").mkdir()

    monkeypatch.setattr(predict, "prepare_environment", lambda store: None)  # this process is prepared
    run = RunConfig(store=str(root))
    predict.predict_files([folder, folder / "good.flac"], None, out, run)
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 files have no prediction" in shown
    assert re.search(r"this model decided \d+% \(the rest: unsure\), and \d+% of these", shown)
    rows = pd.read_csv(out)
    assert "Predictions of models:/heartbeat-demo/" in shown
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
    message = "'models:/no@challenger' is not in the registry.*there are: models:/heartbeat-demo@challenger"
    with pytest.raises(HeartbeatError, match=message):
        predict.predict_files([folder], "models:/no@challenger", None, run)
    nowhere = tmp_path / "nowhere"
    with pytest.raises(HeartbeatError, match=r"no model is registered in .*nowhere: run `heartbeat run` first"):
        predict.predict_files([folder], None, None, RunConfig(store=str(nowhere)))
    assert not nowhere.exists()


def test_the_model_holds_no_pickle(first, root: Path):
    files = [p for p in (root / "mlflow-artifacts").rglob("*") if p.is_file()]
    assert any(p.suffix == ".safetensors" for p in files)
    assert not [p for p in files if p.suffix in (".pkl", ".pt", ".pth")]


ALWAYS = {
    "inventory", "find facts", "gather facts", "last accepted", "accept", "find spectrograms", "gather spectrograms",
    "initial weights", "promote", "summary",
}  # fmt: skip


def task_states(flow_name: str) -> dict[str, set[str]]:
    """The final states of the tasks in the newest run of this flow, by task.

    The server records them in order, some time after the run.
    """
    with get_client(sync_client=True) as prefect:
        newest = prefect.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=20)
        flow_run = next(r for r in newest if prefect.read_flow(r.flow_id).name == flow_name)
        within = [flow_run.id, *(r.id for r in newest if r.parent_task_run_id and r.start_time >= flow_run.start_time)]
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=within))

        def recorded() -> dict[str, set[str]] | None:
            states: dict[str, set[str]] = {}
            for task_run in prefect.read_task_runs(flow_run_filter=wanted):
                states.setdefault(task_run.name.rsplit("-", 1)[0], set()).add(task_run.state_name)
            last = states.get("report", set())
            return states if last & {"Cached", "Completed", "Failed"} else None

        return wait_until(recorded, "the end of the last task")


def test_a_refused_run_leaves_a_notice_until_the_next_run_which_repeats_no_work(first, root: Path, work, caplog):
    page = root / "latest" / "summary.md"
    good = page.read_text()
    registered = registry(root).get_registered_model("heartbeat-demo")
    with pytest.raises(DataRefused):
        heartbeat(tiny(root, validation__min_recordings=1000))
    assert page.read_text().startswith("# The last run was refused: source demo, 2")
    assert "1000 are needed" in page.read_text().splitlines()[2]
    assert page.read_text().endswith(good)
    logged = [r for r in caplog.records if r.name.startswith("prefect.") and "1000 are needed" in r.getMessage()]
    assert logged
    assert not [record for record in logged if record.exc_info]

    again = heartbeat(tiny(root))
    assert page.read_text().startswith("# demo: heartbeat-demo version 1")
    assert not work
    assert again.model_version == 1
    states = task_states("heartbeat")
    assert states.keys() >= {"validate", "split", "manifest", "train", "register"}
    assert not states.keys() & {"measure shard", "spectrogram shard"}  # finished shards cost no task
    assert {name for name, ended in states.items() if ended != {"Cached"}} <= ALWAYS | {"measure", "spectrograms"}
    assert len(registry(root).search_model_versions("name = 'heartbeat-demo'")) == 1
    unchanged = registry(root).get_registered_model("heartbeat-demo")
    assert (unchanged.aliases, unchanged.tags) == (registered.aliases, registered.tags)
    assert again.nothing_new.startswith("Nothing new since heartbeat-demo version 1 of 20")
    assert again.nothing_new.endswith("; there is no champion")  # too few subjects are held out
    assert again.nothing_new in page.read_text()
    assert again.decision == first.decision


def test_another_seed_only_trains_and_going_back_makes_the_earlier_version_the_challenger(first, root: Path, work):
    second = heartbeat(tiny(root, training__seed=1))
    assert work == {"trained": 1}
    assert second.dataset_version == first.dataset_version
    assert challenger(root) == second.model_version == 2
    assert not [note for note in second.notes if "do not compare" in note]
    work.clear()
    progress.begin(display := DisplayLog())
    back = heartbeat(tiny(root))
    progress.begin()
    assert challenger(root) == back.model_version == first.model_version
    assert not work
    message = f"heartbeat-demo@challenger goes back from version 2 to {first.model_version}"
    assert any(message in note for note in back.notes)
    assert any(message in remark for remark in display.remarks)
    registry(root).set_registered_model_alias("heartbeat-demo", "challenger", "2")  # by a person
    heartbeat(tiny(root))
    assert challenger(root) == 2


def test_another_version_is_compared_with_the_champion_on_what_both_have_not_seen(first, root: Path):
    registry(root).set_registered_model_alias("heartbeat-demo", "champion", "1")  # by a person, between two nights
    summary = heartbeat(tiny(root, training__seed=2, promotion__min_subjects=2))
    second = summary.decision
    assert summary.nothing_new == ""  # the choice was made before there was the new version
    assert (second.champion, second.recordings) == (1, first.subjects[-2]["test"])
    assert second.challenger > 1
    shown = registry(root).get_registered_model("heartbeat-demo").aliases["champion"]
    assert int(shown) == (second.challenger if second.outcome == "promoted" else 1)


def test_scores_on_other_held_out_subjects_are_reported_as_not_comparable(first, root: Path):
    other = heartbeat(tiny(root, split__seed=1))
    (note,) = [note for note in other.notes if "do not compare" in note]
    assert f"those of version {other.model_version - 1}: " in note


def test_training_starts_from_a_registered_model(first, root: Path, work: Counter):
    init = f"models:/heartbeat-demo/{first.model_version}"
    heartbeat(tiny(root, training__init=init, training__frozen_epochs=0))
    assert work == {"trained": 1}
    newest = registry(root).get_model_version_by_alias("heartbeat-demo", "challenger")
    assert int(newest.version) > first.model_version
    assert registry(root).get_run(newest.run_id).data.tags["init"] == init
    with pytest.raises(ConfigError, match="is not in the registry"):
        initial_weights.fn("models:/heartbeat-demo/999", RegistryConfig(), Store(root))


def test_a_spectrogram_setting_renders_again_and_measures_nothing(first, root: Path, work: Counter):
    dataset = prepare(tiny(root, spectrogram__high_hz=500.0))
    assert work == {"rendered": dataset.rows}
    assert dataset.digest != first.dataset_version


def test_lost_and_damaged_files_are_rendered_again(first, root: Path, work: Counter):
    before = pd.read_parquet(root / "manifest" / f"{first.dataset_version[:20]}.parquet")
    lost, damaged = sorted(before["shard"].unique())[:2]
    content = (root / damaged).read_bytes()
    (root / lost).unlink()
    (root / damaged).write_bytes(content[:-7] + b"damaged")
    assert prepare(tiny(root)).digest == first.dataset_version
    assert work == {"rendered": int(before["shard"].isin([lost, damaged]).sum())}
    assert (root / damaged).read_bytes() == content


def test_new_recordings_redo_only_their_shards(first, root: Path, work: Counter, tmp_path: Path):
    listing = DemoSource(subjects_per_class=3, sites=1, duration_s=(2.0, 3.0)).listing(root / "made")
    rows = [{"path": str(r.path), "label": r.label, "subject": r.subject} for r in listing.recordings if not r.extra]
    changes = {k: v for k, v in tiny(root).model_dump(mode="json").items() if k not in ("source", "split")}

    def prepared(folder: Path, rows: list[dict]) -> Artifact:
        pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
        return prepare(build_config("table", str(folder / "table.csv"), changes=changes))

    before = prepared(tmp_path, rows)
    work.clear()
    shutil.copytree(listing.recordings[0].path.parent, tmp_path / "copied")
    rows = [{**row, "path": Path(row["path"]).name} for row in rows]
    renamed = prepared(tmp_path / "copied", rows)
    assert renamed.digest != before.digest  # other recording ids make another data set
    moved = Path(shutil.move(tmp_path / "copied", tmp_path / "moved"))
    assert prepared(moved, rows).digest == renamed.digest
    assert not work  # the content has not changed
    new = tmp_path / "new recording ü.wav"
    soundfile.write(new, beats(90, 3.0, seed=7), 4000)
    prepared(moved, [*rows, {"path": str(new), "label": "normal", "subject": "new"}])
    assert work == {"measured": 1, "rendered": 1}
