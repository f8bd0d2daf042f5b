"""Protocols: which folds there are, what is fitted to what, and metrics with known answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError, DataRefused
from heartdata.scoring.calibration import DecisionConfig, apply_temperature, fit_calibration
from heartdata.storage.schemas import STUDY_METRICS
from heartdata.studies.config import study_config
from heartdata.studies.page import metric_rows, study_page
from heartdata.studies.protocols import LEAKY, STUDIES, folds_of, heldout_databases, study_named
from heartdata.studies.scores import AT_POINT, NETWORK, OR_UNSURE, scored_rows, study_metrics, with_operating_point

CLASSES = ["abnormal", "normal"]
FOLDS = study_named("pascal-b")
FOLDS_BY_CLASS = FOLDS.model_copy(update={"scoring": "classes", "seeds": (0,)})
LODO = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})


def accepted(collections: str = "ab", labels: tuple[str, ...] = ("normal", "abnormal")) -> pd.DataFrame:
    rows = [{"collection": c, "label": label} for c in collections for label in labels for _ in range(5)]
    return pd.DataFrame(rows)


def answered(scores: dict[str, list[float]], labels: list[str], **columns: object) -> pd.DataFrame:
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


def test_every_seed_and_fold_is_planned_once():
    study = study_named("pascal-b")
    folds = folds_of(study, accepted(), SplitConfig(collections=("set_b",)))
    assert len(folds) == 15 == len({(f.seed, f.name) for f in folds})
    assert {(f.split.strategy, f.split.seed, f.split.fold) for f in folds} == {
        ("k_fold", seed, fold) for seed in range(3) for fold in range(5)
    }
    assert all(f.split.collections == ("set_b",) for f in folds)


def test_each_database_that_is_there_is_held_out():
    table = pd.concat([accepted("abe"), accepted("x", ("normal",))])
    folds = folds_of(study_named("cinc2016-lodo"), table, SplitConfig())
    assert {f.split.held_out for f in folds} == {"a", "b", "e"}  # x has one label only: nothing can be scored on it
    chosen = folds_of(study_named("cinc2016-lodo"), table, SplitConfig(collections=("a", "b"), attempts=3, seed=7))
    assert {f.split.held_out for f in chosen} == {"a", "b"}
    assert {(f.split.attempts, f.split.seed) for f in chosen} == {(3, 7), (3, 8), (3, 9)}
    assert heldout_databases(table, SplitConfig()) == (["a", "b", "e"], ["x"])
    one = pd.concat([accepted("a"), accepted("x", ("normal",))])
    with pytest.raises(
        DataRefused, match=r"needs two or more that have two labels .* there are: a \(has not\), x \(has"
    ):
        folds_of(study_named("cinc2016-lodo"), one, SplitConfig())


def test_the_article_has_an_arm_that_leaks_and_one_that_does_not():
    folds = folds_of(study_named("article"), accepted(), SplitConfig())
    assert {f.arm: f.subjects_apart for f in folds} == {LEAKY: False, "by subject": True}


def test_settings_of_a_study_are_laid_over_the_sources_and_under_what_is_typed(tmp_path):
    config = study_config("pascal-a", str(tmp_path), None, {"training.epochs": 3}, seeds=2)
    assert config.study.seeds == (0, 1)
    assert config.run.split.collections == ("set_a",)
    assert config.run.training.epochs == 3
    with pytest.raises(ConfigError, match="there is no study 'pascal-c': choose one of pascal-b"):
        study_config("pascal-c")
    with pytest.raises(ConfigError, match="is of the source pascal, not of demo"):
        study_config("pascal-b", None, None, {"source.name": "demo"})


def test_every_study_is_a_valid_configuration(tmp_path):
    for name in STUDIES:
        assert study_config(name, str(tmp_path)).study.name == name


def test_the_operating_point_of_a_study_is_for_the_score_that_it_is_about():
    for name, study in STUDIES.items():
        metric = {"macc": "balanced_accuracy"}.get(study.metric, study.metric)  # equal where no answer is unsure
        assert study_config(name, ".").run.decision.operating_point == metric


@pytest.mark.parametrize("protocol", ["cinc2016", "cinc2016-lodo"])
def test_answers_are_fitted_to_the_validation_part_of_their_fold_alone(protocol: str):
    labels = ["normal"] * 30 + ["abnormal"] * 30
    low, high = [0.1] * 30 + [0.4] * 30, [0.6] * 30 + [0.9] * 30
    test, valid = (answered({"a": low, "b": high}, labels) for _ in range(2))
    study = study_named(protocol)
    config = DecisionConfig(temperature=False, operating_point="balanced_accuracy")
    rows = with_operating_point(test, valid, CLASSES, config, study)
    at_point = rows[rows["model"] == AT_POINT]
    assert (at_point["prediction"] == at_point["label"]).all()  # the other fold's point would answer one class alone
    turned = with_operating_point(test.assign(label=test["label"].iloc[::-1].to_numpy()), valid, CLASSES, config, study)
    assert turned[turned["model"] == AT_POINT]["prediction"].tolist() == at_point["prediction"].tolist()


def test_an_operating_point_that_is_typed_is_taken_though_it_is_the_default():
    labels = ["normal"] * 400 + ["abnormal"] * 40
    both = answered({"a": [0.1] * 300 + [0.32] * 116 + [0.45] * 24}, labels)

    def found(changes: dict[str, str]) -> int:
        config = study_config("cinc2016", ".", None, {"decision.temperature": False, **changes})
        rows = with_operating_point(both, both, CLASSES, config.run.decision, config.study)
        return (rows[rows["model"] == AT_POINT]["prediction"] == "abnormal").sum()

    assert found({}) == 140  # as many as sensitivity and specificity want
    assert found({"decision.operating_point": "macro_f1"}) == 24  # fewer where precision counts
    again = DecisionConfig.model_validate(study_config("cinc2016", ".").run.decision.model_dump())  # as it is recorded
    rows = with_operating_point(
        both, both, CLASSES, again.model_copy(update={"temperature": False}), study_named("cinc2016")
    )
    assert (rows[rows["model"] == AT_POINT]["prediction"] == "abnormal").sum() == 140


def test_patients_are_calibrated_and_scored_by_their_recordings_together():
    classes = ["Abnormal", "Normal"]
    labels = ["Normal"] * 30 + ["Abnormal"] * 30
    first = answered({"a": [0.05] * 30 + [0.2] * 30}, labels)
    second = answered({"a": [0.15] * 30 + [0.6] * 30}, labels)  # of the mean, .1 and .4, none is above a half
    rows = pd.concat([first, second.assign(recording_id=second["recording_id"] + "-2")], ignore_index=True)
    rows = rows.rename(columns={"p_abnormal": "p_Abnormal", "p_normal": "p_Normal"}).assign(
        label=lambda t: t["label"].str.capitalize(), prediction=lambda t: t["prediction"].str.capitalize()
    )
    study = study_named("circor2022-outcome").model_copy(update={"seeds": (0,)})
    patients = scored_rows(rows, study, "mean")
    assert len(patients) == 60
    assert patients["recording_id"].isna().all()
    assert sorted(patients["p_Abnormal"].round(6).unique()) == [0.1, 0.4]
    config = study_config("circor2022-outcome", ".").run.decision.model_copy(update={"temperature": False})
    told = with_operating_point(patients, patients, classes, config, study)
    metrics = study_metrics(told, study, classes, 20, 0).set_index(["model", "metric"])["value"]
    assert metrics[NETWORK, "balanced_accuracy"] == pytest.approx(0.5)
    assert metrics[AT_POINT, "balanced_accuracy"] == pytest.approx(1.0)
    assert metrics[AT_POINT, "cost_per_patient"] < metrics[NETWORK, "cost_per_patient"]
    warm = with_operating_point(patients, patients, classes, config.model_copy(update={"temperature": True}), study)
    fitted = fit_calibration(patients[["p_Abnormal", "p_Normal"]].to_numpy(), patients, classes, DecisionConfig())
    expected = apply_temperature(patients[["p_Abnormal", "p_Normal"]].to_numpy(), fitted.temperature)
    ours = warm[warm["model"] == NETWORK]
    assert ours[["p_Abnormal", "p_Normal"]].to_numpy() == pytest.approx(expected)


def test_the_operating_point_raises_the_weighted_accuracy_of_patients():
    """Murmurs that are present count five times: who is likely to have none is better answered Present."""
    rng = np.random.default_rng(0)
    classes, prior = ["Absent", "Present", "Unknown"], [0.5, 0.4, 0.1]
    labels = rng.choice(classes, 1600, p=prior)
    probabilities = softmax(rng.normal(size=(1600, 3)) + 1.2 * np.eye(3)[[classes.index(x) for x in labels]], axis=1)
    probabilities = probabilities * prior / (probabilities * prior).sum(axis=1, keepdims=True)
    rows = pd.DataFrame(probabilities, columns=[f"p_{c}" for c in classes]).assign(
        arm="by subject", seed=0, fold="0", model=NETWORK, label=labels, noisy=False, subject=None, collection="c",
        prediction=np.array(classes)[probabilities.argmax(axis=1)], patient=[f"p{i}" for i in range(1600)],
        group=[f"p{i}" for i in range(1600)], recording_id=[f"r{i}" for i in range(1600)], sha256="",
    )  # fmt: skip
    study = study_named("circor2022")
    patients = scored_rows(rows, study, "max")
    half = patients["patient"].str[1:].astype(int) < 800
    reached = {}
    for chosen in ("weighted_accuracy", "macro_f1", "none"):
        config = DecisionConfig(operating_point=chosen)
        told = with_operating_point(patients[~half], patients[half], classes, config, study)
        metrics = study_metrics(told, study, classes, 20, 0).set_index(["model", "metric"])["value"]
        reached[chosen] = metrics[AT_POINT, "weighted_accuracy"]
    assert reached["weighted_accuracy"] > max(reached["none"], reached["macro_f1"]) + 0.02


def test_a_score_of_circor_is_refused_where_labels_are_others():
    with pytest.raises(ConfigError, match=r"is for source circor2022 with source.target = outcome"):
        study_config("circor2022", ".", None, {"decision.operating_point": "cost_per_patient"})
    with pytest.raises(ConfigError, match=r"with source.target = murmur: set that, or choose macro_f1"):
        study_config("pascal-b", ".", None, {"decision.operating_point": "weighted_accuracy"})


def test_a_small_advantage_is_told_where_the_same_subjects_are_hard_for_both():
    """The two intervals overlap, as a third of the subjects is hard; the network is right wherever the other is."""
    labels = ["normal", "abnormal"] * 60
    wrong = [i % 3 == 0 for i in range(120)]
    ours = answered({"a": [0.9 if (x == "abnormal") != w else 0.1 for x, w in zip(labels, wrong, strict=True)]}, labels)
    worse = ours.assign(model="simple features")
    for i in range(1, 31, 3):  # ten that the network has right
        worse.loc[i, "prediction"] = "normal" if labels[i] == "abnormal" else "abnormal"
    metrics = study_metrics(pd.concat([ours, worse]), FOLDS_BY_CLASS, CLASSES, 300, 0)
    row = metrics[metrics["metric"] == "macro_f1"].set_index("model").loc["simple features"]
    network = metrics[metrics["metric"] == "macro_f1"].set_index("model").loc[NETWORK]
    assert network["low"] < row["value"] < network["value"]
    assert row["difference"] == pytest.approx(network["value"] - row["value"])
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]
    assert network["difference_low"] == network["difference_high"] == 0


def test_figures_are_means_over_databases_and_name_each():
    study = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels)
    metrics = study_metrics(rows, study, CLASSES, 50, 0).set_index("metric")["value"]
    assert metrics["macc"] == pytest.approx(0.5)
    assert metrics["macc a"] == pytest.approx(1.0)
    assert metrics["macc b"] == pytest.approx(0.0)
    assert metrics["auroc b"] == pytest.approx(0.0)


def test_the_spread_is_over_seeds_and_the_interval_over_subjects():
    study = study_named("cinc2016").model_copy(update={"seeds": (0, 1)})
    labels = ["normal", "abnormal"] * 10
    right = [0.1, 0.9] * 10
    half = [0.1, 0.1] * 10
    rows = pd.concat([answered({"a": right}, labels), answered({"a": half}, labels, seed=1)])
    row = study_metrics(rows, study, CLASSES, 200, 0).set_index("metric").loc["macc"]
    assert row["value"] == pytest.approx(0.75)
    assert row["sd"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert row["low"] <= 0.75 <= row["high"]


def test_unsure_answers_are_given_where_the_challenge_knows_them():
    labels = ["normal", "abnormal"] * 20
    scores = [0.05, 0.95] * 15 + [0.55, 0.45] * 5  # the unsure ones are wrong
    config = DecisionConfig(temperature=False, operating_point="none", max_risk=0.05, min_coverage=0.5)
    both = answered({"a": scores, "b": scores}, labels)
    rows = with_operating_point(both, both, CLASSES, config, study_named("cinc2016"))
    unsure = rows[rows["model"] == OR_UNSURE]
    assert (unsure.loc[unsure["p_abnormal"].between(0.4, 0.6), "prediction"] == "unsure").all()
    assert (unsure["prediction"] == "unsure").sum() == 20
    metrics = study_metrics(unsure, study_named("cinc2016"), CLASSES, 20, 0)
    assert set(metrics["metric"]) == {"sensitivity", "specificity", "macc"}


def test_figures_keep_their_names_whichever_database_has_unsure_answers():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels)
    seeds = pd.concat([rows, rows.assign(seed=1)], ignore_index=True).assign(model=OR_UNSURE)
    seeds.loc[[0, len(rows) + 4], "prediction"] = "unsure"  # one of database a, and one of b with the other seed
    two = LODO.model_copy(update={"seeds": (0, 1)})
    assert set(study_metrics(seeds, two, CLASSES, 20, 0)["metric"]) == {"sensitivity", "specificity", "macc"}
    ours = seeds.assign(model=NETWORK, prediction=np.where(seeds["p_abnormal"] >= 0.5, "abnormal", "normal"))
    metrics = study_metrics(ours, two, CLASSES, 20, 0).set_index("metric")["value"]
    assert (metrics["macc a"], metrics["macc b"]) == (1.0, 0.0)


def test_an_auroc_is_of_each_fold_by_itself():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.3, 0.4], "b": [0.5, 0.6, 0.7, 0.8]}, labels)  # on two scales
    assert study_metrics(rows, FOLDS_BY_CLASS, CLASSES, 20, 0).set_index("metric").loc["auroc", "value"] == 1.0


def test_an_interval_may_have_no_end():
    labels = ["normal"] * 30 + ["murmur"] * 10
    rows = answered({"a": [0.1] * 30 + [0.9] * 9 + [0.1]}, labels)  # many a draw is without the one mistake
    rows = rows.rename(columns={"p_abnormal": "p_murmur"}).assign(
        prediction=lambda t: np.where(t["p_murmur"] > 0.5, "murmur", "normal")
    )
    rows.loc[0, "prediction"] = "murmur"
    study = FOLDS.model_copy(update={"seeds": (0,)})
    row = study_metrics(rows, study, ["murmur", "normal"], 200, 0).set_index("metric")
    power = row.loc["heart_problem_discriminant_power"]
    assert np.isfinite(power["value"])
    assert power["high"] == np.inf


def test_the_page_shows_each_model_and_whose_the_reference_score_is():
    study = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})
    rows = answered({"a": [0.1, 0.9], "b": [0.2, 0.8]}, ["normal", "abnormal"])
    metrics = study_metrics(rows, study, CLASSES, 20, 0)
    page = study_page(study, study_config("cinc2016-lodo", ".").run, metrics, ["comparison"])
    assert "Reference: MAcc 0.519, a public third-party audit, one database left out after another" in page
    assert "fitted to each fold's own validation part" in page
    assert "the operating point is to better `balanced_accuracy`" in page
    assert "made before" not in page
    assert "Patients are answered" not in page
    murmurs = study_page(study_named("circor2022"), study_config("circor2022", ".").run, metrics)
    assert "the probability of a class is the highest of a patient's recordings" in murmurs
    assert "the operating point is to better `weighted_accuracy`" in murmurs
    assert all(study.citation for study in STUDIES.values() if study.reference_score is not None)
    assert "| resnet34 | 1.000" in page
    assert "![comparison](comparison.png)" in page


def test_a_cell_is_blank_where_the_value_is_no_number():
    rows = [
        ("a", -np.inf, np.nan, -np.inf, -np.inf),
        ("b", np.nan, np.nan, np.nan, np.nan),
        ("c", 0.25, 0.125, 0.2, 0.5),
        ("d", -0.25, np.nan, -np.inf, -0.125),
        ("e", np.inf, np.nan, 2.0, np.inf),
    ]
    metrics = pd.DataFrame(rows, columns=["model", "value", "sd", "low", "high"]).assign(metric="accuracy")
    assert {row["model"]: row["accuracy"] for row in metric_rows(metrics, ["accuracy"])} == {
        "a": "", "b": "", "c": "0.250 ± 0.125 (0.200-0.500)", "d": "-0.250 (-inf to -0.125)", "e": "",
    }  # fmt: skip


def test_the_last_column_is_the_paired_difference_to_the_network():
    rows = [(NETWORK, 0.5, 0.0, 0.0, 0.0), ("a", 0.25, 0.25, -0.125, 0.5), ("b", 0.5, np.nan, np.nan, np.nan)]
    metrics = pd.DataFrame(rows, columns=["model", "value", "difference", "difference_low", "difference_high"])
    shown = metric_rows(metrics.assign(metric="accuracy", sd=None, low=np.nan, high=np.nan), [], "accuracy")
    assert {row["model"]: row["accuracy, resnet34 less this"] for row in shown} == {
        NETWORK: "", "a": "+0.250 (-0.125 to +0.500)", "b": "",
    }  # fmt: skip


def test_the_page_names_the_command_with_every_setting_that_differs():
    run = study_config("pascal-b", "x", None, {"training.mixup": 0.4, "split.collections": ["set_a", "set_b"]}).run
    empty = pd.DataFrame(columns=STUDY_METRICS.names)
    page = study_page(study_named("pascal-b"), run, empty, warning="nobody knows", weights="0123456789abcdef")
    assert (
        '`heartbeat study pascal-b --data FOLDER --seeds 3 --set \'split.collections=["set_a", "set_b"]\' '
        "--set training.mixup=0.4`"
    ) in page
    assert "**nobody knows.**" in page
    assert "start from `models:/heartbeat-backbone@champion`, weights `0123456789ab`." in page
    usual = study_page(study_named("pascal-b"), study_config("pascal-b", "x").run, empty)
    assert "`heartbeat study pascal-b --data FOLDER --seeds 3`" in usual


CONTRAST = {"training.contrast": 1.0, "training.balance": "none"}


def test_a_file_of_settings_counts_more_than_the_study_and_less_than_what_is_typed(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("training: {init: random, epochs: 1}\n")
    told = study_config("pascal-b", "x", file, {"training.epochs": 2}).run.training
    assert (told.init, told.epochs, told.batch) == ("random", 2, 32)  # the file's, what was typed, the study's
    file.write_text("source: {name: table}\n")
    with pytest.raises(ConfigError, match="the study pascal-b is of the source pascal, not of table"):
        study_config("pascal-b", "x", file)
    with pytest.raises(ConfigError, match=r"the study circor2022 is scored for source.target = murmur"):
        study_config("circor2022", "x", None, {"source.target": "outcome", "decision.operating_point": "macro_f1"})
    for changes in ({"split.unlabelled": True, **CONTRAST}, {"split.strategy": "hash"}, {"split.test_fraction": 0.4}):
        with pytest.raises(ConfigError, match=f"in its own way: leave out {next(iter(changes))}; it takes split.coll"):
            study_config("pascal-b", "x", None, changes)
    told = study_config("pascal-b", "x", None, {"split.seed": 100, "split.valid_fraction": 0.3}).run.split
    assert (told.seed, told.valid_fraction) == (100, 0.3)
