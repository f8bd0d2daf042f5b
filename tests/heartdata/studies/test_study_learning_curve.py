"""Learning curves of a study: arms, the curve of predictions of known accuracy, and what the page says of it."""

import numpy as np
import pandas as pd
import pytest

from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError, DataRefused
from heartdata.scoring.model_names import NETWORK, SIMPLE_FEATURES
from heartdata.storage.schemas import EXTRAPOLATION
from heartdata.studies.config import study_config
from heartdata.studies.learning_curve import curve_rows, gain_sentences, learning_curve
from heartdata.studies.protocols import TRAIN_SHARES, folds_of, study_named
from heartdata.studies.scores import study_metrics

CURVE = study_named("learning-curve")
CLASSES = ["abnormal", "normal"]


def accepted(subjects: int, labels: tuple[str, ...] = ("abnormal", "normal")) -> pd.DataFrame:
    rows = [{"source": "t", "subject": f"s{i}", "recording_id": f"r{i}", "sha256": f"r{i}"} for i in range(subjects)]
    table = pd.DataFrame(rows).assign(collection="set_b", near_group=None)
    return table.assign(label=[labels[i % len(labels)] for i in range(subjects)])


def test_each_arm_trains_on_a_share_and_tests_the_same_folds():
    split = study_config("learning-curve", ".").run.split
    folds = folds_of(CURVE, accepted(165, ("a", "b", "c")), split)
    assert len(folds) == 6 * 3 * 5
    assert {fold.arm: fold.split.train_share for fold in folds} == TRAIN_SHARES
    same = {(fold.seed, fold.name, fold.split.seed, fold.split.fold) for fold in folds}
    assert len(same) == 15
    whole = next(fold for fold in folds if fold.split.train_share == 1)
    of_pascal_b = folds_of(study_named("pascal-b"), accepted(165), study_config("pascal-b", ".").run.split)
    assert whole.split.digest() in {fold.split.digest() for fold in of_pascal_b}  # cached splits are shared


def test_arms_too_small_for_all_classes_are_left_out_and_too_few_arms_are_refused():
    arms = {fold.arm for fold in folds_of(CURVE, accepted(60, ("a", "b", "c")), SplitConfig())}
    assert sorted(TRAIN_SHARES[arm] for arm in arms) == [0.25, 0.5, 0.75, 1]  # of 60 * .8 * .8 subjects
    with pytest.raises(DataRefused, match="needs 38 or more labelled subjects, and there are 36"):
        folds_of(CURVE, accepted(36, ("a", "b", "c")), SplitConfig())


def test_a_learning_curve_runs_on_any_source_and_other_studies_on_their_own():
    table = study_config("learning-curve", "recordings.csv", source="table")
    assert (table.run.source.name, table.run.split.collections) == ("table", None)
    assert table.run.training.epochs == 0
    assert study_config("learning-curve", ".").run.split.collections == ("set_b",)
    in_file = study_config("learning-curve", ".", changes={"source.name": "circor2022", "source.target": "outcome"})
    assert in_file.run.source.target == "outcome"
    with pytest.raises(ConfigError, match="the study pascal-b uses the source pascal, not table"):
        study_config("pascal-b", "recordings.csv", source="table")
    with pytest.raises(ConfigError, match=r"leave out split\.train_share"):
        study_config("learning-curve", ".", changes={"split.train_share": 0.5})


def predictions(accuracy_of: dict[str, float], model: str, subjects: int = 400) -> pd.DataFrame:
    """Each arm's predictions of the same subjects, the share that is right being given."""
    rows = []
    for arm, accuracy in accuracy_of.items():
        for seed in range(2):
            for i in range(subjects):
                label = CLASSES[i % 2]
                right = (i // 2 * 0.6180339887 + 0.37 * seed) % 1 < accuracy  # spread evenly
                prediction = label if right else CLASSES[1 - i % 2]
                p = 0.9 if prediction == "abnormal" else 0.1
                rows.append((arm, seed, str(i % 5), model, f"s{i}", label, prediction, p, 1 - p))
    columns = ["arm", "seed", "fold", "model", "group", "label", "prediction", "p_abnormal", "p_normal"]
    return pd.DataFrame(rows, columns=columns)


def test_the_curve_of_known_accuracies():
    arms = list(TRAIN_SHARES)
    subjects = {arm: 1600 * share for arm, share in TRAIN_SHARES.items()}
    rising = {arm: 0.9 - 0.12 * TRAIN_SHARES[arm] ** -0.5 for arm in arms}  # from .42 to .78
    rows = pd.concat([predictions(rising, NETWORK), predictions(dict.fromkeys(arms, 0.7), SIMPLE_FEATURES)])
    study = CURVE.model_copy(update={"metric": "accuracy"})
    metrics = study_metrics(rows, study, CLASSES, 25, 0)
    curve, gains = learning_curve(rows, metrics, subjects, study, CLASSES, 25, 0)
    measured = curve[curve["arm"].notna() & (curve["model"] == NETWORK)]
    assert measured["subjects"].tolist() == [100, 200, 400, 800, 1200, 1600]
    assert measured["value"].tolist() == pytest.approx(list(rising.values()), abs=0.005)
    assert (measured["low"] < measured["value"]).all()
    network, flat = gains.set_index("model").loc[[NETWORK, SIMPLE_FEATURES]].itertuples()
    by_hand = 1600 * ((0.12 / 0.10) ** 2 - 1)
    assert network.more_low < by_hand < network.more_high
    assert network.plateau == pytest.approx(0.9, abs=0.03)
    assert flat.reached == 0
    fitted = curve[curve["arm"].isna() & (curve["model"] == NETWORK)]
    assert np.interp(1600, fitted["subjects"], fitted["value"]) == pytest.approx(0.78, abs=0.01)
    shown = curve_rows(curve, "accuracy")
    assert [row["training subjects"] for row in shown] == ["100", "200", "400", "800", "1200", "1600"]
    assert gain_sentences(gains, "accuracy")[1].startswith("simple features: a gain of .02 accuracy is not in sight")


def sentence(more: float, low: float, high: float, reached: float, plateau_high: float = 0.8) -> str:
    row = (NETWORK, 0.7, 0.6, plateau_high, 0.02, more, low, high, reached)
    return gain_sentences(pd.DataFrame([row], columns=EXTRAPOLATION.names), "macro_f1")[0]


def test_the_sentences_say_what_the_curve_determines_and_what_it_does_not():
    assert sentence(80, 50, 160, 1.0) == (
        "resnet34: a gain of .02 macro-F1 would take about 80 more training subjects (95 % interval 50 to 160). "
        "The curve levels off at 0.700 (0.600-0.800)."
    )
    assert sentence(np.inf, 42, np.inf, 0.35, plateau_high=1.0) == (
        "resnet34: a gain of .02 macro-F1 takes at least 42 more training subjects, and the curve does not determine how many: "
        "65% of the resamples do not reach it with 10 times the training subjects. "
        "Where the curve levels off is not determined: at 0.600 or higher."
    )
    assert sentence(np.inf, np.inf, np.inf, 0.01) == (
        "resnet34: a gain of .02 macro-F1 is not in sight: 99% of the resamples do not reach it with 10 times the training "
        "subjects. The curve levels off at 0.700 (0.600-0.800)."
    )
