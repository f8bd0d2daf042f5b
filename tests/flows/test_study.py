"""Small whole studies on synthetic recordings in the layouts of CirCor and PASCAL."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from helpers import DisplayLog, beats, registry, tiny, write_wav

from flows.pipeline import heartbeat
from flows.study import study
from heartdata.errors import DataRefused, HeartbeatError
from heartdata.scoring.model_names import NETWORK
from heartdata.storage.schemas import LEARNING_CURVE, STUDY_METRICS, study_schema
from heartdata.storage.store import Store
from heartdata.studies.config import StudyConfig, study_config
from heartdata.studies.facts import read_study
from heartdata.studies.scores import AT_POINT
from heartdata.training.network import build_net, read_weights, weights_bytes
from tasks.engine import progress
from tasks.registry.killed_runs import PROCESS_TAG, process_tag

pytestmark = pytest.mark.usefixtures("prefect_server")

SMALL = {
    "training.init": "random", "training.epochs": 1, "training.width": 32, "training.batch": 4,
    "evaluation.bootstrap": 20, "validation.max_quarantined_fraction": 0.9, "validation.near_duplicates": "off",
}  # fmt: skip


def circor(root: Path, patients_of_each: int = 6) -> Path:
    """A synthetic data set in CirCor's layout: so many patients of each murmur label, two recordings each.

    The second patient is the first one at another visit, with another murmur label.
    """
    lines = ["Patient ID,Recording locations:,Age,Sex,Murmur,Murmur locations,Outcome,Campaign,Additional ID"]
    for number in range(3 * patients_of_each):
        murmur, outcome = ("Present", "Absent", "Unknown")[number % 3], ("Abnormal", "Normal")[number % 2]
        earlier = 1000 if number == 1 else "nan"
        lines.append(f"{1000 + number},AV+MV,Child,Female,{murmur},nan,{outcome},CC2015,{earlier}")
        for site in ("AV", "MV"):
            samples = beats(60 + 2 * number, 2.0, seed=2 * number + (site == "MV"))
            write_wav(root / "training_data" / f"{1000 + number}_{site}.wav", samples)
    (root / "training_data.csv").write_text("\n".join(lines) + "\n")
    return root


def config_of(name: str, data: Path, store: Path, changes: dict[str, Any] | None = None, **study: Any) -> StudyConfig:
    config = study_config(name, str(data), None, {**SMALL, "store": str(store), **(changes or {})}, seeds=1)
    return config.model_copy(update={"study": config.study.model_copy(update=study)})


def value_of(metrics: pd.DataFrame, model: str, metric: str) -> float:
    return metrics[(metrics["model"] == model) & (metrics["metric"] == metric)]["value"].item()


def test_every_patient_is_tested_once_and_the_study_is_logged_to_mlflow(tmp_path: Path):
    config = config_of("circor2022", circor(tmp_path / "circor"), tmp_path / "out", {"training.members": 2}, folds=2)
    progress.begin(display := DisplayLog())
    results = study(config)
    trained = [detail.partition(":")[0] for stage, _, detail in display.said if stage == "train"]
    assert trained == [f"seed 0, fold {fold}, network {network} of 2" for fold in range(2) for network in (1, 2)]
    store = Store(tmp_path / "out")
    rows = store.read_table(results.predictions, study_schema(list(results.classes))).to_pandas()
    assert set(rows["model"]) == {NETWORK, AT_POINT, "simple features", "metadata only", "majority class"}
    for _, of_model in rows.groupby("model"):
        assert of_model["patient"].is_unique  # scores are by patient
    assert rows.groupby("subject")["fold"].nunique().max() == 1
    assert (rows["patient"].nunique(), rows["subject"].nunique()) == (18, 17)
    metrics = store.read_frame(results.metrics, STUDY_METRICS)
    assert {"weighted_accuracy", "macro_f1", "auroc", "brier", "ece_10_bins"} <= set(metrics["metric"])
    majority = rows[rows["model"] == "majority class"].set_index("patient")
    weights = majority["label"].map({"Present": 5, "Unknown": 3, "Absent": 1})
    by_hand = weights[majority["label"] == majority["prediction"]].sum() / weights.sum()
    assert value_of(metrics, "majority class", "weighted_accuracy") == pytest.approx(by_hand)
    client = registry(tmp_path / "out")
    experiment = client.get_experiment_by_name("heartbeat").experiment_id
    runs = client.search_runs([experiment])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert {r.data.tags.get("mlflow.parentRunId") for r in runs} - {None} == {parents[0].info.run_id}
    assert len(runs) == 1 + 2
    assert parents[0].data.params["run.decision.operating_point"] == "weighted_accuracy"
    assert "run.split.strategy" not in parents[0].data.params  # each fold has its own
    assert all(
        run.data.tags[PROCESS_TAG] == process_tag()[PROCESS_TAG] for run in runs
    )  # to close the runs of a killed process
    for fold in (run for run in runs if run not in parents):
        assert fold.data.params["split.strategy"] == "k_fold"
        assert [metric.step for metric in client.get_metric_history(fold.info.run_id, "train_loss")] == [1, 2]
        weights = read_weights(store.local(f"models/{fold.data.tags['weights_sha256'][:20]}.safetensors"))
        assert {"members.0.fc.bias", "members.1.fc.bias"} <= weights.keys()  # both networks are in the model
    folder = store.workpath("latest/study-circor2022")
    assert {p.name for p in folder.iterdir()} >= {"README.md", "comparison.png", "reliability.png", "metrics.parquet"}
    progress.begin(again := DisplayLog())
    study(config)  # nothing is trained or logged twice
    progress.begin()
    assert [detail for stage, unchanged, detail in again.said if stage == "train" and unchanged] == trained
    assert len(client.search_runs([experiment])) == 3


@pytest.mark.slow
def test_the_official_cost_is_among_the_metrics(tmp_path: Path):
    config = config_of("circor2022-outcome", circor(tmp_path / "circor"), tmp_path / "out", folds=2)
    results = study(config)
    store = Store(tmp_path / "out")
    metrics = store.read_frame(results.metrics, STUDY_METRICS)
    rows = store.read_table(results.predictions, study_schema(list(results.classes))).to_pandas()
    for model in (NETWORK, AT_POINT):
        patients = rows[rows["model"] == model].set_index("patient")
        ill, referred = patients["label"] == "Abnormal", patients["prediction"] == "Abnormal"
        rate, treated, missed = referred.mean(), (ill & referred).mean(), (ill & ~referred).mean()
        by_hand = 35 + 397 * rate - 1718 * rate**2 + 11296 * rate**4 + 10_000 * treated + 50_000 * missed
        assert value_of(metrics, model, "cost_per_patient") == pytest.approx(by_hand)


def test_a_refused_study_leaves_a_notice(tmp_path: Path):
    absent = tmp_path / "absent"
    with pytest.raises(HeartbeatError, match="absent"):
        study(config_of("pascal-b", absent, tmp_path / "out"))
    notice = (tmp_path / "out" / "latest" / "summary.md").read_text()
    assert notice.startswith("# The last run stopped: source pascal")
    assert str(absent) in notice


@pytest.mark.slow
def test_initial_weights_trained_on_a_test_recording_are_refused(tmp_path: Path):
    store = tmp_path / "out"
    summary = heartbeat(tiny(store, source__plant_faults=False, registry__aliases=["champion"]))
    assert summary.model == "heartbeat-demo"
    logged = mlflow.artifacts.list_artifacts(run_id=summary.run_id, artifact_path="provenance")
    assert len(logged) == 1
    init = "models:/heartbeat-demo@champion"
    again = tiny(store, source__plant_faults=False, training__init=init, training__frozen_epochs=0)
    assert heartbeat(again).model_version == 2  # same split: not trained on the test recordings
    with pytest.raises(DataRefused, match="were trained on .* recordings of the test part"):
        heartbeat(tiny(store, source__plant_faults=False, training__init=init, split__seed=7))


@pytest.mark.slow
def test_only_the_leaky_arm_has_a_subject_on_both_sides(tmp_path: Path):
    data = tmp_path / "pascal"
    labels = ("normal", "murmur", "extrastole")
    rows = []
    for subject in range(15):
        for take in range(2):
            name = f"{labels[subject % 3]}__{subject}_{1306258113431 + 10 * subject + take}_A.wav"
            write_wav(data / "set_b" / name, beats(60 + 2 * subject, 2.0, seed=2 * subject + take))
            rows.append(f"b,set_b/{name},{labels[subject % 3]},,")
    (data / "set_b.csv").write_text("dataset,fname,label,sublabel,\n" + "\n".join(rows) + "\n")
    changes = {**SMALL, "store": str(tmp_path / "out"), "source.sets": ["set_b"], "split.collections": ["set_b"]}
    config = study_config("article", str(data), None, changes)
    results = study(config.model_copy(update={"study": config.study.model_copy(update={"folds": 2})}))
    rows = Store(tmp_path / "out").read_table(results.predictions, study_schema(list(results.classes))).to_pandas()
    subject = rows["recording_id"].str.extract(r"__(\d+)_")[0]  # the leaky arm has no subjects
    folds = pd.crosstab([rows["arm"], subject], rows["fold"]).gt(0).sum(axis=1)
    assert folds["by subject"].max() == 1
    assert folds["random split (leaks)"].max() == 2


@pytest.mark.slow
def test_a_learning_curve_on_a_table_of_ones_own_trains_on_more_and_more_subjects(tmp_path: Path):
    rows = ["file,patient,diagnosis"]
    for number in range(40):
        label = ("murmur", "normal")[number % 2]
        write_wav(tmp_path / f"{number}.wav", beats(60 + 2 * number, 2.0, seed=number))
        rows.append(f"{number}.wav,p{number},{label}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    weights = tmp_path / "backbone.safetensors"
    weights.write_bytes(weights_bytes(build_net(2)))
    changes = {
        "store": str(tmp_path / "out"), "training.init": str(weights), "training.frozen_epochs": 1, "training.width": 32,
        "evaluation.bootstrap": 20, "validation.near_duplicates": "off",
    }  # fmt: skip
    config = study_config("learning-curve", str(tmp_path / "table.csv"), None, changes, seeds=1, source="table")
    result = study(config.model_copy(update={"study": config.study.model_copy(update={"folds": 2})}))
    store = Store(tmp_path / "out")
    curve = store.read_frame(result.curve, LEARNING_CURVE)
    measured = curve[curve["arm"].notna() & (curve["model"] == NETWORK)]
    # 1/4 to all of the half of 40 that is not tested, less a fifth to validate
    assert measured["subjects"].tolist() == [4, 8, 12, 16]
    record = read_study(store.workpath("latest/study-learning-curve"))
    assert record.facts.study.arms == result.study.arms
    assert record.facts.command.startswith("heartbeat study learning-curve --source table --data FOLDER --seeds 1")
    assert record.facts.measured.trained_on
    assert "more training subjects" in (store.workpath("latest/study-learning-curve") / "README.md").read_text()
