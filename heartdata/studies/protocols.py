"""The protocols of `heartbeat study`: which recordings, how they are split and scored, and a published reference score."""

import math
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from heartdata.dataset.splits import SplitConfig, split_groups
from heartdata.errors import ConfigError, DataRefused
from heartdata.settings import Settings
from heartdata.training.pretraining import BACKBONE

Scoring = Literal["classes", "pascal_a", "pascal_b", "cinc2016", "circor2022_murmur", "circor2022_outcome"]
FROM_BACKBONE = {"training.init": f"models:/{BACKBONE}@champion"}  # of `heartbeat pretrain`
# For devices that are not in the training part. A network learns the recording device first, so the backbone, which was
# trained on synthetic recordings only, stays frozen: only the last layer is trained, balanced by class and database.
ANY_DEVICE = {
    **FROM_BACKBONE, "training.frozen_epochs": 8, "training.epochs": 0, "training.learning_rate": 0.003,
    "training.balance": "class_and_collection",
}  # fmt: skip
# The folds share devices, so the whole network is trained.
SAME_DEVICES = {
    **FROM_BACKBONE, "training.frozen_epochs": 1, "training.epochs": 8, "training.balance": "class_and_collection"
}  # fmt: skip
# With few recordings one training is partly luck, so an ensemble of several networks predicts.
FEW_RECORDINGS = {
    **FROM_BACKBONE, "split.valid_fraction": 0.15, "training.frozen_epochs": 1, "training.members": 3
}  # fmt: skip
BY_MACC = {"decision.operating_point": "balanced_accuracy"}  # equal to MAcc where no prediction is unsure
GROUPED, LEAKY = "by subject", "random split (leaks)"
# The arms of a learning curve, and their shares of each fold's training subjects; valid and test are the same in all.
TRAIN_SHARES = {
    "1/16 of the training subjects": 1 / 16, "1/8 of the training subjects": 1 / 8, "1/4 of the training subjects": 1 / 4,
    "1/2 of the training subjects": 1 / 2, "3/4 of the training subjects": 3 / 4, "all training subjects": 1.0,
}  # fmt: skip
SUBJECTS_OF_EACH_CLASS = 2  # on average, in the smallest arm of a learning curve
FEWEST_ARMS = 4  # the fitted curve has three parameters
CIRCOR_WINNER = (
    "the winner of the challenge on its hidden test set (Reyna et al., PLOS Digital Health 2023), not on these folds"
)


class Study(Settings):
    """One protocol. ``settings`` are dotted keys laid over the source's preset; ``own_settings`` too, but only where the
    study runs on its own ``source``.
    """

    name: str
    title: str
    source: str
    settings: dict[str, Any] = {}
    own_settings: dict[str, Any] = Field(default={}, exclude_if=lambda settings: not settings)
    any_source: bool = Field(
        default=False, exclude_if=lambda any_source: not any_source, description="whether it may run on another source"
    )
    protocol: Literal["k_fold", "leave_one_out"] = "k_fold"
    folds: int = Field(default=5, ge=2)
    seeds: tuple[int, ...] = (0, 1, 2)
    scoring: Scoring = "classes"
    level: Literal["recording", "subject"] = Field(
        default="recording",
        description="what is scored; the recordings of a subject are combined by evaluation.subject_rule",
    )
    metric: str = "macro_f1"
    reference_score: float | None = Field(default=None, description="a published value of the metric")
    citation: str = Field(default="", description="source and protocol of the reference score")
    arms: tuple[str, ...] = (GROUPED,)
    note: str = ""

    @property
    def is_learning_curve(self) -> bool:
        """Whether the arms differ in the number of training subjects."""
        return set(self.arms) <= set(TRAIN_SHARES)

    def arm_title(self, arm: str) -> str:
        """The title of one arm's metrics; the arm is named where there are several."""
        return self.title if len(self.arms) == 1 else f"{self.title}\n{arm}"

    def fold_title(self, fold: "Fold") -> str:
        """A fold's display name; its arm is named where there are several."""
        arm = f"{fold.arm}, " if len(self.arms) > 1 else ""
        return f"{arm}seed {fold.seed}, fold {fold.name}"


class Fold(Settings):
    """One training and one test of a study."""

    arm: str
    seed: int
    name: str
    split: SplitConfig

    @property
    def subjects_apart(self) -> bool:
        """False where the protocol leaks on purpose, to measure the effect."""
        return self.arm != LEAKY


_STUDIES = (
    Study(
        name="pascal-b",
        title="PASCAL set B: normal, murmur, extrastole; 5 folds by subject",
        source="pascal",
        settings={**FEW_RECORDINGS, "split.collections": ["set_b"], "training.epochs": 8, "training.batch": 32},
        scoring="pascal_b",
        reference_score=0.470,
        citation="a third-party audit without a publication, 5 folds grouped by subject",
    ),
    Study(
        name="pascal-a",
        title="PASCAL set A: normal, murmur, extrahls, artifact; 5 folds, near-duplicates kept together",
        source="pascal",
        settings={**FEW_RECORDINGS, "split.collections": ["set_a"], "training.epochs": 25, "training.batch": 8},
        scoring="pascal_a",
        reference_score=0.626,
        citation="a third-party audit without a publication, 2 times 5 stratified folds",
        note="Set A names no subjects: recordings of one person may be in several folds, unless they are near-duplicates.",
    ),
    Study(
        name="cinc2016-lodo",
        title="CinC 2016: each database held out in turn",
        source="cinc2016",
        settings={**ANY_DEVICE, **BY_MACC},
        protocol="leave_one_out",
        scoring="cinc2016",
        metric="macc",
        reference_score=0.519,
        citation="a third-party audit without a publication, each database left out in turn; possibly other databases",
    ),
    Study(
        name="cinc2016",
        title="CinC 2016: all databases together, 5 folds by subject",
        source="cinc2016",
        settings={**SAME_DEVICES, **BY_MACC},
        scoring="cinc2016",
        metric="macc",
        reference_score=0.859,
        citation="a third-party audit without a publication, the best of several classical models in 5 times 5 folds grouped by "
        "subject; possibly other databases",
        note="The folds share recording devices: see the study cinc2016-lodo for unseen devices. Without the challenge's "
        "appendix the recordings name no subjects, and those of one person may be in several folds.",
    ),
    Study(
        name="circor2022",
        title="CirCor 2022: murmurs; 5 folds by patient",
        source="circor2022",
        settings={
            **SAME_DEVICES,
            "source.target": "murmur",
            "decision.operating_point": "weighted_accuracy",
            "evaluation.subject_rule": "max",
        },
        scoring="circor2022_murmur",
        level="subject",
        metric="weighted_accuracy",
        reference_score=0.780,
        citation=CIRCOR_WINNER,
    ),
    Study(
        name="circor2022-outcome",
        title="CirCor 2022: clinical outcome; 5 folds by patient",
        source="circor2022",
        settings={
            **SAME_DEVICES,
            "source.target": "outcome",
            "decision.operating_point": "cost_per_patient",
            "evaluation.subject_rule": "mean",
        },
        scoring="circor2022_outcome",
        level="subject",
        metric="cost_per_patient",
        reference_score=11144,
        citation=CIRCOR_WINNER,
    ),
    Study(
        name="article",
        title="What tutorials do: both PASCAL sets in five classes, one spectrogram a file, a random split",
        source="pascal",
        settings={
            "split.collections": ["set_a", "set_b"],
            "training.view": "whole",
            "training.init": "random",
            "training.epochs": 8,
        },  # fmt: skip
        arms=(LEAKY, GROUPED),
        seeds=(0,),
        note="The arms differ only in whether a subject may be in both training and test. Metadata alone reveals the device, "
        "and with it some of the classes.",
    ),
    Study(
        name="learning-curve",
        title="How the score grows with the number of training subjects; 5 folds by subject",
        source="pascal",
        settings=ANY_DEVICE,
        own_settings={"split.collections": ["set_b"], "split.valid_fraction": 0.15},
        any_source=True,
        arms=tuple(TRAIN_SHARES),
        note="Each arm trains on a share of the training subjects of its fold: whole subjects, the classes in their shares but "
        "at least one subject of each, those of a smaller arm among those of a larger one. Validation and test subjects are "
        "the same in all arms, so the curve shows what training subjects give; someone who has few subjects also has few to "
        "validate with. Only the last layer is trained, on the frozen backbone: a network that is trained whole has "
        "another curve.",
    ),
)
STUDIES = {study.name: study for study in _STUDIES}


def study_named(name: str) -> Study:
    """One of STUDIES. Raises `ConfigError`."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}: choose one of {', '.join(STUDIES)}")
    return STUDIES[name]


def folds_of(study: Study, accepted: pd.DataFrame, split: SplitConfig) -> list[Fold]:
    """Every fold of every seed and arm; ``accepted`` (schema ACCEPTED) names the collections.

    Of a learning curve, arms too small to have every class are left out. Raises `DataRefused` when fewer than two databases
    can be held out, or too few arms of a learning curve are left.
    """
    if study.protocol == "leave_one_out":
        held_out, others = heldout_databases(accepted, split)
        if len(held_out) < 2:
            raise DataRefused(
                f"the study {study.name} holds out each database in turn: it needs two or more that have two labels and "
                f"leave two to train on; usable: {', '.join(held_out) or 'none'}; not usable: {', '.join(others) or 'none'}"
            )
        ways: dict[str, dict[str, Any]] = {
            name: {"strategy": "leave_one_source_out", "held_out": name} for name in held_out
        }
    else:
        ways = {str(i): {"strategy": "k_fold", "folds": study.folds, "fold": i} for i in range(study.folds)}
    common = split.model_dump(include={"collections", "valid_fraction", "attempts"})
    return [
        Fold(
            arm=arm,
            seed=seed,
            name=name,
            split=SplitConfig(**common, **way, seed=split.seed + seed, train_share=TRAIN_SHARES.get(arm, 1.0)),
        )
        for arm in (learning_curve_arms(study, accepted, split) if study.is_learning_curve else study.arms)
        for seed in study.seeds
        for name, way in ways.items()
    ]


def heldout_databases(accepted: pd.DataFrame, split: SplitConfig) -> tuple[list[str], list[str]]:
    """The collections in use that can be held out, and the others: fewer than two labels in them or in the rest."""
    in_use = _in_use(accepted, split)
    usable: dict[bool, list[str]] = {True: [], False: []}
    for name in sorted(in_use["collection"].unique()):
        here = in_use["collection"] == name
        usable[min(in_use.loc[here, "label"].nunique(), in_use.loc[~here, "label"].nunique()) > 1].append(name)
    return usable[True], usable[False]


def learning_curve_arms(study: Study, accepted: pd.DataFrame, split: SplitConfig) -> list[str]:
    """The arms with at least SUBJECTS_OF_EACH_CLASS training subjects a class on average. Raises `DataRefused`."""
    in_use = _in_use(accepted, split)
    trained_share = (1 - 1 / study.folds) * (1 - split.valid_fraction)
    needed = SUBJECTS_OF_EACH_CLASS * in_use["label"].nunique() / trained_share
    subjects = split_groups(in_use).nunique()
    arms = [arm for arm in study.arms if TRAIN_SHARES[arm] * subjects >= needed]
    if len(arms) < FEWEST_ARMS:
        smallest = sorted((TRAIN_SHARES[arm] for arm in study.arms), reverse=True)[FEWEST_ARMS - 1]
        raise DataRefused(
            f"a learning curve needs {math.ceil(needed / smallest)} or more labelled subjects, and there are {subjects}: "
            "record more, or leave out rare labels"
        )
    return arms


def _in_use(accepted: pd.DataFrame, split: SplitConfig) -> pd.DataFrame:
    labelled = accepted[accepted["label"].notna()]
    return labelled if split.collections is None else labelled[labelled["collection"].isin(split.collections)]
