"""Protocols: which folds there are, what is fitted to what, and metrics worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError, DataRefused
from heartdata.scoring.calibration import DecisionConfig, apply_temperature, fit_calibration
from heartdata.scoring.model_names import NETWORK
from heartdata.studies.config import study_config
from heartdata.studies.protocols import GROUPED, LEAKY, STUDIES, Fold, Study, folds_of, heldout_databases, study_named
from heartdata.studies.scores import (
    AT_POINT,
    OR_UNSURE,
    scored_rows,
    study_metrics,
    with_known_subjects,
    with_operating_point,
)

CLASSES = ["abnormal", "normal"]
FOLDS = study_named("cinc2016").model_copy(update={"seeds": (0,)})
FOLDS_BY_CLASS = FOLDS.model_copy(update={"scoring": "classes"})
LODO = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})


def accepted(collections: str = "ab", labels: tuple[str, ...] = ("normal", "abnormal")) -> pd.DataFrame:
    return pd.DataFrame([{"collection": c, "label": label} for c in collections for label in labels for _ in range(5)])


def study_rows(scores: dict[str, list[float]], labels: list[str], **columns: object) -> pd.DataFrame:
    """Rows of schema study_schema: fold name to the probability of abnormal of each of its recordings."""
    rows = []
    for fold, of_fold in scores.items():
        for i, (score, label) in enumerate(zip(of_fold, labels, strict=True)):
            rows.append({
                "arm": "by subject", "seed": 0, "fold": fold, "model": NETWORK, "recording_id": f"{fold}{i}",
                "sha256": f"{fold}{i}", "group": f"{fold}{i}", "subject": None, "patient": f"{fold}{i}",
                "collection": fold, "noisy": False, "label": label, "prediction": "abnormal" if score >= 0.5 else "normal",
                "p_abnormal": score, "p_normal": 1 - score, **columns,
            })  # fmt: skip
    return pd.DataFrame(rows)


def values(rows: pd.DataFrame, study, classes: list[str] = CLASSES, resamples: int = 20) -> pd.DataFrame:
    """The study's metrics, by model and metric."""
    return study_metrics(rows, study, classes, resamples, 0).set_index(["model", "metric"])


def test_every_seed_and_fold_is_planned_once():
    folds = folds_of(study_named("pascal-b"), accepted(), SplitConfig(collections=("set_b",)))
    assert len(folds) == 15 == len({(f.seed, f.name) for f in folds})
    assert {(f.split.strategy, f.split.seed, f.split.fold) for f in folds} == {
        ("k_fold", seed, fold) for seed in range(3) for fold in range(5)
    }
    assert all(f.split.collections == ("set_b",) for f in folds)


def test_each_database_in_use_is_held_out():
    table = pd.concat([accepted("abe"), accepted("x", ("normal",))])
    folds = folds_of(LODO, table, SplitConfig())
    assert {f.split.held_out for f in folds} == {"a", "b", "e"}  # x has one label only, so nothing can be scored on it
    assert heldout_databases(table, SplitConfig()) == (["a", "b", "e"], ["x"])
    split = SplitConfig(collections=("a", "b"), attempts=3, seed=7)
    chosen = folds_of(study_named("cinc2016-lodo"), table, split)
    assert {f.split.held_out for f in chosen} == {"a", "b"}
    assert {(f.split.attempts, f.split.seed) for f in chosen} == {(3, 7), (3, 8), (3, 9)}
    with pytest.raises(DataRefused, match="needs two or more .* usable: none; not usable: a, x"):
        folds_of(LODO, pd.concat([accepted("a"), accepted("x", ("normal",))]), SplitConfig())


def test_the_article_has_an_arm_that_leaks_and_one_that_does_not():
    folds = folds_of(study_named("article"), accepted(), SplitConfig())
    assert {f.arm: f.subjects_apart for f in folds} == {LEAKY: False, "by subject": True}


@pytest.mark.parametrize(
    ("study", "title"),
    [("cinc2016-lodo", "seed 2, fold training-a"), ("article", "by subject, seed 2, fold training-a")],
)
def test_the_title_of_a_fold_names_its_arm_where_there_are_several(study: str, title: str):
    fold = Fold(arm="by subject", seed=2, name="training-a", split={"strategy": "k_fold", "folds": 5, "fold": 0})
    assert study_named(study).fold_title(fold) == title


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_a_valid_configuration(name: str):
    config = study_config(name, ".")
    metric = {"macc": "balanced_accuracy"}.get(config.study.metric, config.study.metric)  # equal without unsure
    assert config.run.decision.operating_point == metric
    assert config.study.citation or config.study.reference_score is None


def test_settings_override_those_of_the_study_which_override_those_of_the_source(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("training: {init: random, epochs: 1}\n")
    config = study_config("pascal-b", "x", file, {"training.epochs": 2, "split.seed": 100}, seeds=2)
    training = config.run.training
    assert (training.init, training.epochs, training.batch) == ("random", 2, 32)  # from file, changes, study
    assert (config.run.split.seed, config.run.split.collections) == (100, ("set_b",))
    assert config.study.seeds == (0, 1)
    typed = study_config(
        "cinc2016", "x", None, {"decision.operating_point": "macro_f1"}
    )  # the default of heartbeat run
    assert typed.run.decision.operating_point == "macro_f1"


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        ("pascal-c", {}, "there is no study 'pascal-c': choose one of pascal-b"),
        ("pascal-b", {"source.name": "table"}, "uses the source pascal, not table"),
        ("circor2022", {"source.target": "outcome", "decision.operating_point": "macro_f1"}, "needs source.target = murmur"),
        ("pascal-b", {"split.strategy": "hash"}, "leave out split.strategy; you may change split.collections"),
        ("pascal-b", {"split.test_fraction": 0.4}, "leave out split.test_fraction"),
        ("pascal-b", {"split.unlabelled": True, "training.contrast": 1.0, "training.balance": "none"}, "split.unlabelled"),
        ("circor2022", {"decision.operating_point": "cost_per_patient"}, "source circor2022 with source.target = outcome"),
        ("pascal-b", {"decision.operating_point": "weighted_accuracy"}, "source.target = murmur: set that, or choose macro"),
    ],
)  # fmt: skip
def test_settings_that_belong_to_the_protocol_are_refused(study: str, changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        study_config(study, "x", None, changes)


@pytest.mark.parametrize("study", [FOLDS, LODO])
def test_decisions_are_fitted_to_the_validation_part_of_their_own_fold(study):
    labels = ["normal"] * 30 + ["abnormal"] * 30
    low, high = [0.1] * 30 + [0.4] * 30, [0.6] * 30 + [0.9] * 30
    test = valid = study_rows({"a": low, "b": high}, labels)
    config = DecisionConfig(temperature=False, operating_point="balanced_accuracy")
    rows = with_operating_point(test, valid, CLASSES, config, study)
    at_point = rows[rows["model"] == AT_POINT]
    assert (at_point["prediction"] == at_point["label"]).all()  # the other fold's point would predict one class alone
    turned = with_operating_point(test.assign(label=test["label"].iloc[::-1].to_numpy()), valid, CLASSES, config, study)
    assert turned[turned["model"] == AT_POINT]["prediction"].tolist() == at_point["prediction"].tolist()


def test_patients_are_calibrated_and_scored_by_all_their_recordings():
    classes = ["Abnormal", "Normal"]
    labels = ["Normal"] * 30 + ["Abnormal"] * 30
    first = study_rows({"a": [0.05] * 30 + [0.2] * 30}, labels)
    second = study_rows({"a": [0.15] * 30 + [0.6] * 30}, labels)  # of the means, .1 and .4, none is above a half
    rows = pd.concat([first, second.assign(recording_id=second["recording_id"] + "-2")], ignore_index=True)
    rows = rows.rename(columns={"p_abnormal": "p_Abnormal", "p_normal": "p_Normal"}).assign(
        label=lambda t: t["label"].str.capitalize(), prediction=lambda t: t["prediction"].str.capitalize()
    )
    study = study_named("circor2022-outcome").model_copy(update={"seeds": (0,)})
    patients = scored_rows(rows, study, "mean")
    assert len(patients) == 60
    assert patients["recording_id"].isna().all()
    assert sorted(patients["p_Abnormal"].round(6).unique()) == [0.1, 0.4]
    config = study_config("circor2022-outcome", ".").run.decision
    calibrated = with_operating_point(patients, patients, classes, config, study)
    metrics = values(calibrated, study, classes)["value"]
    assert metrics[NETWORK, "balanced_accuracy"] == pytest.approx(0.5)
    assert metrics[AT_POINT, "balanced_accuracy"] == pytest.approx(1.0)
    assert metrics[AT_POINT, "cost_per_patient"] < metrics[NETWORK, "cost_per_patient"]
    probabilities = patients[["p_Abnormal", "p_Normal"]].to_numpy()
    expected = apply_temperature(probabilities, fit_calibration(probabilities, patients, classes, config).temperature)
    network = calibrated[calibrated["model"] == NETWORK]
    assert network[["p_Abnormal", "p_Normal"]].to_numpy() == pytest.approx(expected)


def test_patients_with_the_same_probabilities_tie_however_many_recordings_they_have():
    study = study_named("circor2022-outcome").model_copy(update={"seeds": (0,)})
    patients = [number for number in range(12) for _ in range(2 + number % 5)]
    labels = ["Abnormal" if number % 5 < 2 else "Normal" for number in patients]
    rows = study_rows({"0": [0.1 + 0.2] * len(patients)}, labels, prediction="Normal", model=NETWORK)
    rows = rows.rename(columns={"p_abnormal": "p_Abnormal", "p_normal": "p_Normal"})
    names = [f"patient {number}" for number in patients]
    rows = rows.assign(patient=names, group=names, subject=names)
    metrics = values(scored_rows(rows, study, "mean"), study, ["Abnormal", "Normal"])
    assert metrics.loc[(NETWORK, "auroc"), "value"] == 0.5


def test_a_paired_difference_is_clear_though_both_intervals_overlap():
    """A third of the subjects is hard for both models; the network is correct wherever the other is."""
    labels = ["normal", "abnormal"] * 60
    wrong = [i % 3 == 0 for i in range(120)]
    scores = [0.9 if (x == "abnormal") != w else 0.1 for x, w in zip(labels, wrong, strict=True)]
    ours = study_rows({"a": scores}, labels)
    worse = ours.assign(model="simple features")
    for i in range(1, 31, 3):  # ten that the network has correct
        worse.loc[i, "prediction"] = "normal" if labels[i] == "abnormal" else "abnormal"
    metrics = values(pd.concat([ours, worse]), FOLDS_BY_CLASS, resamples=300)
    network, row = metrics.loc[(NETWORK, "macro_f1")], metrics.loc[("simple features", "macro_f1")]
    assert network["low"] < row["value"] < network["value"]
    assert row["difference"] == pytest.approx(network["value"] - row["value"])
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]
    assert network["difference_low"] == network["difference_high"] == 0


def test_metrics_are_means_over_held_out_databases_and_of_each_one():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = study_rows({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels)
    metrics = values(rows, LODO)["value"][NETWORK]
    names = ["macc", "macc a", "macc b", "auroc b"]
    assert metrics[names].tolist() == pytest.approx([0.5, 1.0, 0.0, 0.0])


def test_a_model_that_always_predicts_the_same_class_has_no_interval():
    labels = ["normal", "normal", "abnormal", "abnormal"] * 3
    constant = [0.1] * 12
    metrics = values(study_rows({"a": constant, "b": [0.1, 0.1, 0.9, 0.9] * 3}, labels), LODO).loc[NETWORK]
    assert metrics.loc["macc a", ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]
    assert metrics.loc["macc b", "value"] == 1.0 > metrics.loc["macc b", "low"]
    ranked = values(study_rows({"a": [0.1, 0.1, 0.2, 0.2] * 3, "b": constant}, labels), LODO).loc[NETWORK]
    assert ranked.loc["macc a", ["low", "high"]].tolist() == [0.5, 0.5]
    assert (
        ranked.loc["auroc a", "value"] == 1.0 > ranked.loc["auroc a", "low"]
    )  # it ranks, though it never says abnormal
    both = values(study_rows({"a": constant, "b": constant}, labels), LODO).loc[NETWORK]
    assert both.loc["macc", ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]
    assert both.loc["auroc", ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]


def test_the_standard_deviation_is_over_seeds_and_the_interval_over_subjects():
    labels = ["normal", "abnormal"] * 10
    correct, half = [0.1, 0.9] * 10, [0.1, 0.1] * 10
    rows = pd.concat([study_rows({"a": correct}, labels), study_rows({"a": half}, labels, seed=1)])
    row = values(rows, FOLDS, resamples=200).loc[(NETWORK, "macc")]
    assert row["value"] == pytest.approx(0.75)
    assert row["sd"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert row["low"] <= 0.75 <= row["high"]


def test_predictions_may_be_unsure_where_the_challenge_allows_it():
    labels = ["normal", "abnormal"] * 20
    scores = [0.05, 0.95] * 15 + [0.55, 0.45] * 5  # the ones near a half are wrong
    config = DecisionConfig(temperature=False, operating_point="none", max_risk=0.05, min_coverage=0.5)
    both = study_rows({"a": scores, "b": scores}, labels)
    rows = with_operating_point(both, both, CLASSES, config, FOLDS)
    unsure = rows[rows["model"] == OR_UNSURE]
    assert ((unsure["prediction"] == "unsure") == unsure["p_abnormal"].between(0.4, 0.6)).all()
    assert set(study_metrics(unsure, FOLDS, CLASSES, 20, 0)["metric"]) == {"sensitivity", "specificity", "macc"}


def test_metrics_have_the_same_names_whichever_database_has_unsure_predictions():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = study_rows({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels, model=OR_UNSURE)
    seeds = pd.concat([rows, rows.assign(seed=1)], ignore_index=True)
    seeds.loc[[0, len(rows) + 4], "prediction"] = "unsure"  # one of database a, and one of b with the other seed
    two = LODO.model_copy(update={"seeds": (0, 1)})
    assert set(study_metrics(seeds, two, CLASSES, 20, 0)["metric"]) == {"sensitivity", "specificity", "macc"}


def test_auroc_is_computed_within_each_fold():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = study_rows({"a": [0.1, 0.2, 0.3, 0.4], "b": [0.5, 0.6, 0.7, 0.8]}, labels)  # on two scales
    assert values(rows, FOLDS_BY_CLASS).loc[(NETWORK, "auroc"), "value"] == 1.0


def test_a_bound_of_an_interval_may_be_infinite():
    labels = ["normal"] * 30 + ["murmur"] * 10
    scores = [0.9] + [0.1] * 29 + [0.9] * 9 + [0.1]  # many resamples lack the only false negative
    rows = study_rows({"a": scores}, labels).rename(columns={"p_abnormal": "p_murmur"})
    rows = rows.assign(prediction=rows["prediction"].replace("abnormal", "murmur"))
    study = study_named("pascal-b").model_copy(update={"seeds": (0,)})
    power = values(rows, study, ["murmur", "normal"], 200).loc[(NETWORK, "heart_problem_discriminant_power")]
    assert np.isfinite(power["value"])
    assert power["high"] == np.inf


def test_intervals_of_the_arm_that_hides_subjects_are_over_the_same_subjects():
    apart = study_rows({"network": [0.9, 0.8, 0.3, 0.2]}, ["normal", "normal", "abnormal", "abnormal"]).assign(
        arm=GROUPED,
        recording_id=list("abcd"),
        group=["s1", "s1", "s2", "s2"],
        subject=["1", "1", "2", "2"],
        patient="x",
    )
    hidden = apart.assign(arm=LEAKY, group=list("abcd"), subject=None, patient=None)
    both = with_known_subjects(pd.concat([hidden, apart], ignore_index=True))
    columns = ["recording_id", "group", "subject", "patient"]
    assert both.loc[both["arm"] == LEAKY, columns].values.tolist() == apart[columns].values.tolist()
    assert both.loc[both["arm"] == GROUPED, columns].values.tolist() == apart[columns].values.tolist()
    alone = with_known_subjects(hidden)
    assert alone["group"].tolist() == list("abcd")


LABELS = {
    "pascal_a": ["artifact", "extrahls", "murmur", "normal"], "pascal_b": ["extrastole", "murmur", "normal"],
    "cinc2016": ["abnormal", "normal"], "circor2022_murmur": ["Absent", "Present", "Unknown"],
    "circor2022_outcome": ["Abnormal", "Normal"], "classes": ["murmur", "normal"],
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_the_scoring_of_every_study_computes_its_metric(name: str):
    study = study_named(name)
    labels = LABELS[study.scoring] * 2
    rows = study_rows({"0": [0.5] * len(labels)}, labels).drop(columns=["p_abnormal", "p_normal"])
    rows = rows.assign(prediction=labels, **{f"p_{label}": rows["label"] == label for label in LABELS[study.scoring]})
    metrics = study_metrics(rows, study, LABELS[study.scoring], 20, 0)
    assert study.metric in set(metrics["metric"])


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("cinc2016", {"source.databases": ["training-b", "training-c"]}),
        ("table", {"source.columns.collection": "device"}),
        ("table", {"source.columns": {"collection": "device"}}),
    ],
)
def test_a_study_may_fix_any_setting_of_its_source(monkeypatch: pytest.MonkeyPatch, source: str, settings: dict):
    study = Study(name="fixed", title="Fixed", source=source, settings=settings)
    monkeypatch.setitem(STUDIES, "fixed", study)
    study_config("fixed", "x")
    (key,) = settings
    changed = {"source.databases": ["training-b"]} if source == "cinc2016" else {"source.columns.collection": "place"}
    with pytest.raises(ConfigError, match=f"the study fixed needs {key} = .*: leave that unchanged"):
        study_config("fixed", "x", None, changed)


def test_youdens_j_has_bounds_that_it_can_reach():
    labels = ["artifact"] * 20 + ["normal"] * 20
    rows = study_rows({"0": [0.9] * 19 + [0.1] + [0.1] * 20}, ["abnormal"] * 20 + ["normal"] * 20)
    names = {"abnormal": "artifact", "normal": "normal"}
    rows = rows.assign(label=labels, prediction=rows["prediction"].map(names)).rename(
        columns={"p_abnormal": "p_artifact"}
    )
    found = values(rows, study_named("pascal-a").model_copy(update={"seeds": (0,)}), ["artifact", "normal"], 200)
    row = found.loc[(NETWORK, "artifact_youden_j")]
    assert row["value"] == pytest.approx(0.95)
    assert 0.5 < row["low"] < 0.95 < row["high"] < 1
