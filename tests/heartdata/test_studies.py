"""Protocols: which folds there are, what is fitted to what, and figures with known answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heartdata.config import AnswersConfig
from heartdata.errors import ConfigError, DataRefused
from heartdata.splits import SplitConfig
from heartdata.studies import LEAKY, STUDIES, databases, folds_of, study_named
from heartdata.study_config import study_config
from heartdata.study_page import figure_rows, study_page
from heartdata.study_scores import AT_POINT, NETWORK, OR_UNSURE, study_figures, with_calibrated

CLASSES = ["abnormal", "normal"]
FOLDS = study_named("pascal-b")  # any protocol of folds that is scored by classes
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
                "collection": fold, "noisy": False, "label": label, "answer": "abnormal" if score >= 0.5 else "normal",
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
    assert databases(table, SplitConfig()) == (["a", "b", "e"], ["x"])
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


def test_an_operating_point_is_fitted_to_the_other_folds_alone():
    labels = ["normal"] * 30 + ["abnormal"] * 30
    low = [0.1] * 30 + [0.4] * 30  # a threshold of a quarter would part them, a half finds nothing
    config = AnswersConfig(temperature=False, operating_point="balanced_accuracy")
    both = answered({"a": low, "b": low}, labels)
    of_classes = FOLDS.model_copy(update={"scoring": "classes"})
    rows = with_calibrated(both, both[:0], CLASSES, config, of_classes)
    at_point = rows[rows["model"] == AT_POINT]
    assert (at_point["answer"] == at_point["label"]).all()
    assert (rows.loc[rows["model"] == NETWORK, "answer"] == "normal").all()
    # turn the labels of fold a: its own operating point must not notice, that of fold b must
    turned = answered({"a": low, "b": low}, labels)
    of_a = turned["fold"] == "a"
    turned.loc[of_a, "label"] = turned.loc[of_a, "label"].map({"normal": "abnormal", "abnormal": "normal"})
    again = with_calibrated(turned, both[:0], CLASSES, config, of_classes)
    answers_of = {
        fold: [t[(t["model"] == AT_POINT) & (t["fold"] == fold)]["answer"].tolist() for t in (rows, again)]
        for fold in "ab"
    }
    assert answers_of["a"][0] == answers_of["a"][1]
    assert answers_of["b"][0] != answers_of["b"][1]


def test_where_a_database_is_held_out_answers_are_fitted_to_the_validation_part_of_its_fold():
    labels = ["normal"] * 30 + ["abnormal"] * 30
    low, high = [0.1] * 30 + [0.4] * 30, [0.6] * 30 + [0.9] * 30
    valid = answered({"a": low, "b": high}, labels)
    config = AnswersConfig(temperature=False)
    rows = with_calibrated(answered({"a": low, "b": high}, labels), valid, CLASSES, config, LODO)
    at_point = rows[rows["model"] == AT_POINT]
    assert (at_point["answer"] == at_point["label"]).all()  # the other fold's point would answer one class alone
    turned = with_calibrated(answered({"a": low, "b": high}, labels[::-1]), valid, CLASSES, config, LODO)
    assert turned[turned["model"] == AT_POINT]["answer"].tolist() == at_point["answer"].tolist()


def test_an_operating_point_that_is_asked_for_is_taken():
    labels = ["normal"] * 400 + ["abnormal"] * 40
    scores = [0.1] * 300 + [0.32] * 116 + [0.45] * 24
    both = answered({"a": scores, "b": scores}, labels)
    study = study_named("cinc2016")
    told = [
        with_calibrated(both, both[:0], CLASSES, AnswersConfig(temperature=False, **asked), study)
        for asked in ({}, {"operating_point": "macro_f1"})
    ]
    found = [(t[t["model"] == AT_POINT]["answer"] == "abnormal").sum() for t in told]
    assert found == [280, 48]  # as many as sensitivity and specificity want; fewer where precision counts


def test_the_outcome_of_a_patient_is_answered_at_the_operating_point():
    labels = ["Normal"] * 30 + ["Abnormal"] * 30
    low = [0.1] * 30 + [0.4] * 30
    rows = answered({"a": low, "b": low}, labels).rename(columns={"p_abnormal": "p_Abnormal", "p_normal": "p_Normal"})
    rows["answer"] = rows["answer"].str.capitalize()
    twice = pd.concat([rows, rows.assign(recording_id=rows["recording_id"] + "-2")], ignore_index=True)
    study = study_named("circor2022-outcome").model_copy(update={"seeds": (0,)})
    told = with_calibrated(twice, twice[:0], ["Abnormal", "Normal"], AnswersConfig(temperature=False), study)
    figures = study_figures(told, study, ["Abnormal", "Normal"], 20, 0).set_index(["model", "metric"])["value"]
    assert figures[NETWORK, "balanced_accuracy"] == pytest.approx(0.5)
    assert figures[AT_POINT, "balanced_accuracy"] == pytest.approx(1.0)
    assert figures[AT_POINT, "cost_per_patient"] < figures[NETWORK, "cost_per_patient"]


def test_figures_are_means_over_databases_and_name_each():
    study = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels)
    figures = study_figures(rows, study, CLASSES, 50, 0).set_index("metric")["value"]
    assert figures["macc"] == pytest.approx(0.5)
    assert figures["macc a"] == pytest.approx(1.0)
    assert figures["macc b"] == pytest.approx(0.0)
    assert figures["auroc b"] == pytest.approx(0.0)


def test_the_spread_is_over_seeds_and_the_interval_over_subjects():
    study = study_named("cinc2016").model_copy(update={"seeds": (0, 1)})
    labels = ["normal", "abnormal"] * 10
    right = [0.1, 0.9] * 10
    half = [0.1, 0.1] * 10
    rows = pd.concat([answered({"a": right}, labels), answered({"a": half}, labels, seed=1)])
    row = study_figures(rows, study, CLASSES, 200, 0).set_index("metric").loc["macc"]
    assert row["value"] == pytest.approx(0.75)
    assert row["sd"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert row["low"] <= 0.75 <= row["high"]


def test_unsure_answers_are_given_where_the_challenge_knows_them():
    labels = ["normal", "abnormal"] * 20
    scores = [0.05, 0.95] * 15 + [0.55, 0.45] * 5  # the unsure ones are wrong
    config = AnswersConfig(temperature=False, operating_point="none", max_risk=0.05, min_coverage=0.5)
    both = answered({"a": scores, "b": scores}, labels)
    rows = with_calibrated(both, both[:0], CLASSES, config, study_named("cinc2016"))
    unsure = rows[rows["model"] == OR_UNSURE]
    assert (unsure.loc[unsure["p_abnormal"].between(0.4, 0.6), "answer"] == "unsure").all()
    assert (unsure["answer"] == "unsure").sum() == 20
    figures = study_figures(unsure, study_named("cinc2016"), CLASSES, 20, 0)
    assert set(figures["metric"]) == {"sensitivity", "specificity", "macc"}


def test_figures_keep_their_names_whichever_database_has_unsure_answers():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.8, 0.9], "b": [0.9, 0.8, 0.2, 0.1]}, labels)
    seeds = pd.concat([rows, rows.assign(seed=1)], ignore_index=True).assign(model=OR_UNSURE)
    seeds.loc[[0, len(rows) + 4], "answer"] = "unsure"  # one of database a, and one of b with the other seed
    two = LODO.model_copy(update={"seeds": (0, 1)})
    assert set(study_figures(seeds, two, CLASSES, 20, 0)["metric"]) == {"sensitivity", "specificity", "macc"}
    ours = seeds.assign(model=NETWORK, answer=np.where(seeds["p_abnormal"] >= 0.5, "abnormal", "normal"))
    figures = study_figures(ours, two, CLASSES, 20, 0).set_index("metric")["value"]
    assert (figures["macc a"], figures["macc b"]) == (1.0, 0.0)


def test_an_auroc_is_of_each_fold_by_itself():
    labels = ["normal", "normal", "abnormal", "abnormal"]
    rows = answered({"a": [0.1, 0.2, 0.3, 0.4], "b": [0.5, 0.6, 0.7, 0.8]}, labels)  # on two scales
    study = FOLDS.model_copy(update={"scoring": "classes"})
    assert study_figures(rows, study, CLASSES, 20, 0).set_index("metric").loc["auroc", "value"] == 1.0


def test_an_interval_may_have_no_end():
    labels = ["normal"] * 30 + ["murmur"] * 10
    rows = answered({"a": [0.1] * 30 + [0.9] * 9 + [0.1]}, labels)  # many a draw is without the one mistake
    rows = rows.rename(columns={"p_abnormal": "p_murmur"}).assign(
        answer=lambda t: np.where(t["p_murmur"] > 0.5, "murmur", "normal")
    )
    rows.loc[0, "answer"] = "murmur"
    study = FOLDS.model_copy(update={"seeds": (0,)})
    row = study_figures(rows, study, ["murmur", "normal"], 200, 0).set_index("metric")
    power = row.loc["heart_problem_discriminant_power"]
    assert np.isfinite(power["value"])
    assert power["high"] == np.inf


def test_the_page_shows_each_model_and_the_prior_best():
    study = study_named("cinc2016-lodo").model_copy(update={"seeds": (0,)})
    rows = answered({"a": [0.1, 0.9], "b": [0.2, 0.8]}, ["normal", "abnormal"])
    figures = study_figures(rows, study, CLASSES, 20, 0)
    page = study_page(study, study_config("cinc2016-lodo", ".").run, figures, ["comparison"])
    assert "Prior best under such a protocol: MAcc 0.519" in page
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
    figures = pd.DataFrame(rows, columns=["model", "value", "sd", "low", "high"]).assign(metric="accuracy")
    assert {row["model"]: row["accuracy"] for row in figure_rows(figures, ["accuracy"])} == {
        "a": "", "b": "", "c": "0.250 ± 0.125 (0.200-0.500)", "d": "-0.250 (-inf to -0.125)", "e": "",
    }  # fmt: skip


def test_the_page_names_the_command_with_every_setting_that_differs():
    run = study_config(
        "pascal-b", "x", None, {"training.find_learning_rate": True, "split.collections": ["set_a", "set_b"]}
    ).run
    empty = pd.DataFrame(columns=["arm", "model", "metric", "value", "sd", "low", "high"])
    page = study_page(study_named("pascal-b"), run, empty, warning="nobody knows", weights="0123456789abcdef")
    assert (
        '`heartbeat study pascal-b --data FOLDER --seeds 3 --set \'split.collections=["set_a", "set_b"]\' '
        "--set training.find_learning_rate=true`"
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
        study_config("circor2022", "x", None, {"source.target": "outcome"})
    for changes in ({"split.unlabelled": True, **CONTRAST}, {"split.strategy": "hash"}, {"split.test_fraction": 0.4}):
        with pytest.raises(ConfigError, match=f"in its own way: leave out {next(iter(changes))}; it takes split.coll"):
            study_config("pascal-b", "x", None, changes)
    told = study_config("pascal-b", "x", None, {"split.seed": 100, "split.valid_fraction": 0.3}).run.split
    assert (told.seed, told.valid_fraction) == (100, 0.3)
