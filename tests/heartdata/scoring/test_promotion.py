"""A challenger is promoted when it is better beyond chance and passes each gate; every gate refuses a bad one."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks.promotion import BETTER, SKILL, differences, refused
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.scoring.promotion import Decision, PromotionConfig, decide

CLASSES = ["murmur", "normal"]
EVALUATION = EvaluationConfig(bootstrap=100)
N = 80
ATTRIBUTES = pd.DataFrame({"recording_id": [f"r{i}" for i in range(N)], "site": ["AV", "MV"] * (N // 2), "sex": None})


def predictions(
    wrong: float = 0.0, confidence: float = 0.9, seed: int = 0, n: int = N, **columns: object
) -> pd.DataFrame:
    """One recording of each of ``n`` subjects, half of them murmurs; a share ``wrong`` of them is predicted wrongly."""
    labels = np.array(["murmur", "murmur", "normal", "normal"] * (n // 4), object)
    others = np.where(labels == "murmur", "normal", "murmur")
    is_wrong = np.random.default_rng(seed).permutation(n) < wrong * n
    rows = pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(n)], "sha256": "0", "group": [f"s{i}" for i in range(n)], "label": labels,
         "prediction": np.where(is_wrong, others, labels)}
    )  # fmt: skip
    p_murmur = np.where(rows["prediction"] == "murmur", confidence, 1 - confidence)
    return rows.assign(**{"p_murmur": p_murmur, "p_normal": 1 - p_murmur, **columns})


WEAK = {"simple features": predictions(0.5, seed=1), "metadata only": predictions(0.5, seed=2)}


def decided(
    challenger: pd.DataFrame, champion: pd.DataFrame | None, baselines: dict | None = None, attributes=ATTRIBUTES,
    first="gates", **settings: object,
) -> Decision:  # fmt: skip
    config = PromotionConfig.model_validate({"metric": "accuracy", **settings})
    return decide(
        challenger, WEAK if baselines is None else baselines, champion, attributes, CLASSES, config, EVALUATION, first
    )


def test_a_better_challenger_is_promoted_and_the_reason_has_the_numbers():
    decision = decided(predictions(0.1), predictions(0.4, seed=3))
    assert decision.outcome == "promoted"
    assert decision.reason.startswith("the challenger is better: accuracy 0.900 against 0.600 of the champion")
    assert "above 0, and passes every other gate" in decision.reason
    assert (decision.subjects, decision.recordings) == (N, N)
    names = ["the champion", "simple features", "metadata only"]
    assert [g.name for g in decision.gates] == [
        "held-out subjects",
        *(f"better than {n}" for n in names),
        "ECE",
        "worst slice",
    ]
    assert all(gate.passed for gate in decision.gates)


@pytest.mark.parametrize(
    ("challenger", "champion", "reason"),
    [
        (predictions(0.2), predictions(0.25, seed=3), "the champion stays: accuracy 0.800 against 0.750 of the champion"),
        (predictions(0.4), predictions(0.1, seed=3), "the champion stays: accuracy 0.600 against 0.900 of the champion"),
        (predictions(0.1), predictions(0.1), "the champion stays: accuracy 0.900, with the same predictions as the champion on 80 subjects held out from both"),
        (predictions(0), predictions(0), "the champion stays: accuracy 1.000, with the same predictions as the champion"),
        (predictions(1, n=80), predictions(1), "the champion stays: accuracy 0.000, with the same predictions"),
    ],
)  # fmt: skip
def test_one_that_is_not_better_is_not(challenger: pd.DataFrame, champion: pd.DataFrame, reason: str):
    decision = decided(challenger, champion)
    assert decision.outcome == "kept"
    assert decision.reason.startswith(reason)


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "accuracy", "auroc"])
def test_a_wider_bound_never_promotes_the_same_predictions(metric: str):
    rows = predictions(0.1)
    assert decided(rows, rows, metric=metric, min_difference=-0.2).outcome == "kept"
    assert decided(rows, predictions(0.12, seed=3), metric=metric, min_difference=-0.2).outcome == "promoted"


def test_a_perfect_challenger_replaces_one_that_is_always_wrong():
    assert decided(predictions(0), predictions(1)).outcome == "promoted"


def test_few_subjects_that_all_favour_the_challenger_are_no_proof():
    champion = predictions(0)
    champion.loc[:3, "prediction"] = ["normal", "normal", "murmur", "murmur"]
    assert decided(predictions(0), champion).outcome == "kept"


# By the gate's name: the settings, a challenger that it refuses, one that it passes, and what the reason says.
GOOD = predictions(0.1)
IN_SLICE = predictions(0.0)
IN_SLICE.loc[1:60:2, "prediction"] = predictions(1.0).loc[1:60:2, "prediction"]
NO_MURMUR = GOOD.assign(prediction=GOOD["prediction"].mask((GOOD["label"] == "murmur") & (GOOD.index < 60), "normal"))
GATES = {
    "least accuracy": ({"min_metric": 0.8}, predictions(0.25), GOOD, "accuracy 0.750, below 0.8"),
    "better than simple features": ({}, predictions(0.45), GOOD, "of simple features, difference"),
    "better than metadata only": ({}, predictions(0.45), GOOD, "of metadata only, difference"),
    "sensitivity of murmur": ({"min_sensitivity": {"murmur": 0.7}}, NO_MURMUR, GOOD, "below 0.7"),
    "ECE": ({}, predictions(0.1, confidence=0.55), GOOD, "ECE 0.350, above 0.25"),
    "worst slice": ({}, IN_SLICE, GOOD, "site MV: accuracy "),
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("is_first", [True, False])
def test_each_gate_refuses_a_bad_challenger_and_passes_a_good_one(name: str, is_first: bool):
    settings, bad, good, text = GATES[name]
    champion = None if is_first else predictions(0.5, seed=3)
    if name == "worst slice":
        champion = predictions(0.25, seed=3)
        champion.loc[1::2] = predictions(0.0).loc[1::2]
    for challenger, passes in ((bad, False), (good, True)):
        decision = decided(challenger, champion, **settings)
        (gate,) = (gate for gate in decision.gates if gate.name == name)
        assert gate.passed == passes
        if not passes:
            assert decision.outcome == "kept"
            assert text in gate.detail
            assert text in decision.reason or name in decision.reason.split("also failed: ")[-1].split(", ")


def test_a_reason_gives_one_gate_in_full_and_names_the_others():
    bad, names = predictions(0.55, seed=3), "better than metadata only, ECE"
    reason = decided(bad, None).reason
    assert reason.startswith("there is still no champion: accuracy 0.450 against")
    assert reason.endswith(f"not above 0; also failed: {names}")
    few = decided(bad[:12], None).reason
    assert "12 of the 20 subjects needed" in few
    assert few.endswith(f"also failed: better than simple features, {names}")
    good = decided(predictions(0.1), None).reason
    assert good.startswith("it becomes the first champion: accuracy 0.900 against")
    assert good.endswith(f"; also passed: {names}")


def test_a_named_class_that_does_not_exist_is_a_gate_that_is_not_passed():
    decision = decided(predictions(0.1), None, min_sensitivity={"Murmur": 0.5})
    assert decision.outcome == "kept"
    assert decision.reason == "there is still no champion: no held-out recording for the sensitivity of Murmur"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 16}, "16 of the 20 subjects needed are held out from both models (promotion.min_subjects)"),
        ({"label": "normal"}, "all recordings held out from both models are normal"),
        ({"label": ["murmur"] + ["normal"] * 79}, "only one subject held out from both models has the label murmur"),
        (
            {"label": ["murmur", "murmur", "click", "click"] * 20},
            "click is a label, but none of the challenger's classes",
        ),
        ({"prediction": "click"}, "click is a prediction, but none of the challenger's classes"),
        ({"p_click": 0.1}, "one model knows the classes click, murmur, normal, the other murmur, normal"),
        ({"n": 16, "p_click": 0.1}, "one model knows the classes click, murmur, normal, the other murmur, normal"),
        ({"p_murmur": np.nan}, "a prediction is missing or not a number"),
    ],
)
def test_what_cannot_be_compared_is_not_decided(changes: dict, reason: str):
    of_truth = {name: value for name, value in changes.items() if name == "label"}
    of_champion = {name: value for name, value in changes.items() if name != "label"}
    champion, challenger = predictions(0.4, seed=3, **of_champion), predictions(0.1, **of_truth)
    decision = decided(challenger, champion, {}, metric="auroc", max_ece=1)
    assert (decision.outcome, decision.reason) == ("cannot decide", f"the champion stays: {reason}")


@pytest.mark.parametrize("champion", [None, predictions(0.4, seed=3, n=12)])
def test_too_few_subjects_are_a_gate_beside_the_others_that_failed(champion: pd.DataFrame | None):
    rows = predictions(0.4, n=12)
    decision = decided(rows, champion, {"metadata only": rows})
    subjects, baseline, ece = decision.gates
    assert (subjects.name, subjects.value, subjects.bound, subjects.passed) == ("held-out subjects", 12, 20, False)
    assert (baseline.passed, ece.passed) == (False, False)
    assert decision.outcome == "cannot decide"
    assert "12 of the 20 subjects needed" in decision.reason
    assert decision.reason.endswith("(promotion.min_subjects); also failed: better than metadata only, ECE")
    enough = decided(rows, champion, {}, min_subjects=12, min_slice_subjects=12).gates[0]
    assert (enough.name, enough.passed) == ("held-out subjects", True)


def test_the_first_champion_needs_the_gates_or_none():
    good, bad = predictions(0.1), predictions(0.5, seed=3)
    assert decided(good, None).outcome == "promoted"
    assert decided(bad, None).reason.startswith("there is still no champion: accuracy 0.500 against")
    always = decided(bad, None, first="always")
    assert always.outcome == "promoted"
    assert "(registry.first_champion=always), although accuracy 0.500 against" in always.reason
    few = predictions(0.1, n=12)
    assert decided(few, None, {}).outcome == "cannot decide"
    assert decided(few, None, {}, first="always").outcome == "promoted"


def test_nothing_is_decided_on_nothing():
    empty = predictions(0.1).iloc[:0]
    for champion in (None, empty):
        decision = decided(empty, champion)
        assert (decision.outcome, decision.subjects) == ("cannot decide", 0)
    decision = decided(predictions(0.1), empty)
    assert (
        decision.reason
        == "the champion stays: 0 of the 20 subjects needed are held out from both models (promotion.min_subjects)"
    )


def test_predictions_that_cannot_be_scored_pass_no_gate():
    champion = predictions(0.4, seed=3).iloc[:60]
    challenger = predictions(0.1)
    challenger.loc[70, "p_murmur"] = np.nan  # of a recording that the champion was trained on
    assert decided(challenger, champion).outcome == "cannot decide"
    lacking = {"simple features": predictions(0.5, n=40)}
    decision = decided(predictions(0.1), champion, lacking)
    assert decision.outcome == "kept"
    assert decision.reason.endswith("but simple features cannot be compared (a prediction is missing or not a number)")


def test_only_the_recordings_held_out_from_both_are_compared():
    champion = predictions(0.4, seed=3).iloc[40:].sample(frac=1, random_state=0)
    decision = decided(predictions(0.1), champion)
    assert (decision.subjects, decision.recordings) == (40, 40)
    assert f"against {(champion['label'] == champion['prediction']).mean():.3f}" in decision.reason


def test_small_slices_and_unknown_attributes_are_not_compared():
    decision = decided(predictions(0.1), predictions(0.4, seed=3), attributes=ATTRIBUTES.head(30))
    assert decision.outcome == "promoted"
    assert decision.gates[-1].detail == "no slice of at least 20 subjects can be compared"


def test_equal_models_are_promoted_no_more_often_than_the_level_says():
    promoted = (differences(200, 30, (SKILL, SKILL))["low"] > 0).sum()
    assert promoted <= binom.ppf(0.99, 200, 0.05)
    assert (differences(20, 120, (BETTER, SKILL))["low"] > 0).mean() > 0.75


@pytest.mark.slow
def test_a_slice_is_refused_for_a_large_drop_and_not_for_noise():
    assert refused(30, 120, SKILL) <= 0.1
    assert refused(30, 300, 0.0) > 0.8
