"""Whether a challenger replaces the champion: gates with a value and a bound each, and the reason in one sentence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from heartdata.scoring.calibration import confidence_of, expected_calibration_error
from heartdata.scoring.comparison import Comparison, Metric, compare
from heartdata.scoring.metrics import EvaluationConfig, compute_metrics
from heartdata.scoring.slices import slices_of
from heartdata.scoring.text import metric_label
from heartdata.settings import Settings

Outcome = Literal["promoted", "kept", "cannot decide"]
HELD_OUT, BETTER_THAN = "held-out subjects", "better than "  # names of gates
Share = Annotated[float, Field(ge=0, le=1)]


class PromotionConfig(Settings):
    """When a challenger becomes the champion."""

    metric: Metric = Field(default="macro_f1", description="the metric that models are compared by")
    level: float = Field(default=0.95, gt=0.5, lt=1, description="one-sided confidence of each comparison")
    min_difference: float = Field(
        default=0.0,
        ge=-1,
        le=1,
        description="metric of the challenger minus the champion's; its lower bound at that level must be above this",
    )
    min_subjects: int = Field(
        default=20, ge=2, description="least number of held-out subjects that neither model was trained on"
    )
    min_metric: Share = Field(default=0.0, description="least metric of the challenger; 0: no such gate")
    min_over_baselines: float = Field(
        default=0.0,
        ge=-1,
        le=1,
        description="metric of the challenger minus each baseline's; its lower bound at that level must be above this; "
        "-1: no such gate",
    )
    min_sensitivity: dict[str, Share] = Field(
        default={}, description="least sensitivity by the name of the class, such as {murmur: .7}"
    )
    max_ece: Share = Field(default=0.25, description="highest calibration error (ECE, 10 bins); 1: no such gate")
    max_slice_drop: Share = Field(
        default=0.05,
        description="how much worse than the champion a slice may be, by more than chance; 1: no such gate",
    )
    min_slice_subjects: int = Field(
        default=20, ge=2, description="least number of subjects of a slice that is compared"
    )


class Gate(BaseModel):
    """One condition of a promotion; ``value`` and ``bound``: whole numbers are counts, None could not be computed."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: int | float | None
    bound: int | float | None
    passed: bool
    detail: str = ""


class Decision(BaseModel):
    """The outcome for one challenger, why, and each gate. ``champion``: the version it was compared with."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str
    gates: tuple[Gate, ...] = ()
    challenger: int | None = None
    champion: int | None = None
    subjects: int = 0
    recordings: int = 0


def decide(
    challenger: pd.DataFrame, baselines: Mapping[str, pd.DataFrame], champion: pd.DataFrame | None,
    attributes: pd.DataFrame, classes: list[str], config: PromotionConfig, evaluation: EvaluationConfig,
    first_champion: Literal["gates", "always"],
) -> Decision:  # fmt: skip
    """Decide by the rules of docs/promotion.md. Tables of predictions are of schema `predictions_schema`.

    ``challenger`` and ``baselines``: of the whole test part; ``champion``: of those of its recordings that neither model
    was trained or tuned on, None when there is no champion; ``attributes``: schema SLICE_ATTRIBUTES.
    """
    rules = _Rules(classes, config, evaluation)
    rows = challenger = challenger.reset_index(drop=True)
    if champion is not None:
        rows = challenger[challenger["recording_id"].isin(champion["recording_id"])].reset_index(drop=True)
        champion = _aligned(champion, rows)
    counted = {"subjects": rows["group"].nunique(), "recordings": len(rows)}
    fault = rules.fault(challenger)
    enough = rules.subjects_gate(rows, champion)
    obstacle = rules.obstacle(rows, champion, enough) or fault
    gates = () if fault else tuple(rules.absolute_gates(challenger, baselines))
    if champion is None:
        outcome, reason = _first(gates, obstacle, first_champion)
        return Decision(outcome=outcome, reason=reason, gates=(enough, *gates), **counted)
    if obstacle:
        reason = f"the champion stays: {_first_failure(gates, obstacle)}"
        return Decision(outcome="cannot decide", reason=reason, gates=(enough, *gates), **counted)
    comparison = rules.compare(rows, champion)
    where = f" on {comparison.subjects} subjects held out from both"
    better = rules.difference_gate("the champion", comparison, config.min_difference, where)
    gates = (better, *gates, *rules.slice_gate(rows, champion, attributes))
    outcome, reason = _against(gates)
    return Decision(outcome=outcome, reason=reason, gates=(enough, *gates), **counted)


class _Rules:
    """The rules for one set of classes and settings."""

    def __init__(self, classes: list[str], config: PromotionConfig, evaluation: EvaluationConfig) -> None:
        self.classes, self.config, self.evaluation = classes, config, evaluation
        self.probabilities = [f"p_{c}" for c in classes]
        self.metric = metric_label(config.metric)

    def compare(self, first: pd.DataFrame, second: pd.DataFrame, level: float | None = None) -> Comparison:
        """`compare` by the configured metric and, unless another is given, level."""
        settings = self.config.metric, level or self.config.level, self.evaluation.bootstrap, self.evaluation.seed
        return compare(first, second, self.classes, *settings)

    def fault(self, rows: pd.DataFrame) -> str:
        """Why predictions cannot be scored; empty when they can."""
        if rows.empty:
            return "nothing is held out"
        known = rows.columns[rows.columns.str.startswith("p_")]
        if set(known) != set(self.probabilities):
            return f"one model knows the classes {_names(known.str[2:])}, the other {_names(self.classes)}"
        for column in ("label", "prediction"):
            if unknown := set(rows[column].dropna()) - set(self.classes):
                return f"{_names(unknown)} is a {column}, but none of the challenger's classes"
        if rows[["label", "prediction", *self.probabilities]].isna().any(axis=None):
            return "a prediction is missing or not a number"
        return ""

    def subjects_gate(self, rows: pd.DataFrame, champion: pd.DataFrame | None) -> Gate:
        """Enough subjects are held out from the challenger, and from the champion if there is one."""
        subjects, least, where = rows["group"].nunique(), self.config.min_subjects, _held_out(champion)
        if passed := subjects >= least:
            detail = f"{subjects} subjects are {where}, at least {least} are needed"
        else:
            detail = f"{subjects} of the {least} subjects needed are {where} (promotion.min_subjects)"
        return Gate(name=HELD_OUT, value=subjects, bound=least, passed=passed, detail=detail)

    def obstacle(self, rows: pd.DataFrame, champion: pd.DataFrame | None, enough: Gate) -> str:
        """Why a decision on these recordings is impossible; empty when it is possible."""
        if champion is not None and len(champion) and (fault := self.fault(champion)):
            return fault
        if not enough.passed:
            return enough.detail
        where = _held_out(champion)
        of_class = rows.groupby("label")["group"].nunique()
        if len(of_class) < 2:
            return f"all recordings {where} are {_names(of_class.index)}"
        if of_class.min() < 2:  # whose variance no resampling measures
            return f"only one subject {where} has the label {of_class.idxmin()}"
        return ""

    def absolute_gates(self, rows: pd.DataFrame, baselines: Mapping[str, pd.DataFrame]) -> Iterator[Gate]:
        """The configured conditions on the challenger by itself, over the whole test part ``rows``."""
        config = self.config
        labels, predictions = rows["label"].to_numpy(object), rows["prediction"].to_numpy(object)
        probabilities = rows[self.probabilities].to_numpy(float)
        if config.min_metric > 0:
            weights = np.ones((1, len(rows)))
            table = compute_metrics(labels, predictions, probabilities, self.classes, weights, [config.metric])
            value = float(table[config.metric].iloc[0])
            yield _at_least(f"least {self.metric}", self.metric, value, config.min_metric)
        for name, baseline in baselines.items() if config.min_over_baselines > -1 else ():
            aligned = _aligned(baseline, rows)
            if fault := self.fault(aligned):
                detail, bound = f"{name} cannot be compared ({fault})", config.min_over_baselines
                yield Gate(name=f"{BETTER_THAN}{name}", value=None, bound=bound, passed=False, detail=detail)
            else:
                yield self.difference_gate(name, self.compare(rows, aligned), config.min_over_baselines)
        for name, least in config.min_sensitivity.items():
            of_class = labels == name
            value = float((predictions == name)[of_class].mean()) if of_class.any() else np.nan
            yield _at_least(f"sensitivity of {name}", f"sensitivity of {name}", value, least)
        if config.max_ece < 1:
            confidence = confidence_of(predictions, probabilities, self.classes)
            ece = expected_calibration_error(confidence, labels == predictions)
            passed = bool(ece <= config.max_ece)
            detail = f"ECE {ece:.3f}, {'not ' if passed else ''}above {config.max_ece:g}"
            yield Gate(name="ECE", value=ece, bound=config.max_ece, passed=passed, detail=detail)

    def difference_gate(self, other: str, comparison: Comparison, bound: float, where: str = "") -> Gate:
        """The one-sided lower bound of a difference must be above ``bound``; models that predict alike never pass.

        ``where``: what they are compared on, for people.
        """
        value: float | None = comparison.low
        passed = bool(comparison.differing and comparison.low > bound)
        if np.isnan(comparison.low):
            value, detail = None, f"{self.metric} cannot be compared with {other} on {comparison.subjects} subjects"
        elif not comparison.differing:
            detail = f"{self.metric} {comparison.first:.3f}, with the same predictions as {other}{where}"
        else:
            detail = (
                f"{self.metric} {comparison.first:.3f} against {comparison.second:.3f} of {other}{where}, difference "
                f"{comparison.difference:+.3f} (one-sided {100 * self.config.level:g} % bound {comparison.low:+.3f}), "
                f"{'' if passed else 'not '}above {bound:g}"
            )
        return Gate(name=f"{BETTER_THAN}{other}", value=value, bound=bound, passed=passed, detail=detail)

    def slice_gate(self, rows: pd.DataFrame, champion: pd.DataFrame, attributes: pd.DataFrame) -> Iterator[Gate]:
        """No slice may be worse than the champion by more than ``max_slice_drop`` and by more than chance.

        The level is shared among the slices (Bonferroni). Classes of one subject in a slice are left out of it.
        """
        config = self.config
        if config.max_slice_drop >= 1:
            return
        joined = rows.merge(attributes.drop_duplicates("recording_id"), on="recording_id", how="left")
        measurable = {f"{a} {v}": _of_several_subjects(part) for a, v, part in slices_of(joined)}
        large = {n: part for n, part in measurable.items() if part["group"].nunique() >= config.min_slice_subjects}
        level = 1 - (1 - config.level) / max(len(large), 1)
        each = {name: self.compare(part, champion.loc[part.index], level) for name, part in large.items()}
        compared = {name: c for name, c in each.items() if not np.isnan(c.high)}
        bound, size = -config.max_slice_drop, f"of at least {config.min_slice_subjects} subjects"
        if not compared:
            detail = f"no slice {size} can be compared"
            yield Gate(name="worst slice", value=None, bound=bound, passed=True, detail=detail)
            return
        worse = {name: c for name, c in compared.items() if c.difference < bound and c.high < 0}
        worst, of_worst = min((worse or compared).items(), key=lambda item: item[1].difference)
        without = f", {len(each) - len(compared)} of which cannot be compared" if len(each) > len(compared) else ""
        detail = (
            f"{worst}: {self.metric} {of_worst.first:.3f} against {of_worst.second:.3f} of the champion on "
            f"{of_worst.subjects} subjects, {'' if worse else 'not '}worse by more than {-bound:g} and beyond chance (the "
            f"worst of {len(each)} slices {size}{without})"
        )
        yield Gate(name="worst slice", value=of_worst.difference, bound=bound, passed=not worse, detail=detail)


def _held_out(champion: pd.DataFrame | None) -> str:
    return "held out" if champion is None else "held out from both models"


def _first(gates: tuple[Gate, ...], obstacle: str, first_champion: str) -> tuple[Outcome, str]:
    """Outcome and reason when there is no champion."""
    failed = _first_failure(gates, obstacle)
    if first_champion == "always":
        despite = f", although {failed}" if failed else ", and passes every gate"
        return "promoted", f"it becomes the first champion (registry.first_champion=always){despite}"
    if failed:
        return "cannot decide" if obstacle else "kept", f"there is still no champion: {failed}"
    return "promoted", f"it becomes the first champion: {_passed(gates) if gates else 'no gate is configured'}"


def _against(gates: tuple[Gate, ...]) -> tuple[Outcome, str]:
    """Outcome and reason of the comparison with the champion, whose gate is the first."""
    better, *others = gates
    failed = _first_failure(others)
    if better.passed and not failed:
        return "promoted", f"the challenger is better: {better.detail}, and passes every other gate"
    but = ", but " if better.passed else "; also "
    return "kept", f"the champion stays: {better.detail}{but if failed else ''}{failed}"


def _first_failure(gates: Sequence[Gate], obstacle: str = "") -> str:
    """The obstacle or else why the first failed gate was failed, and the names of the others; empty if all were passed."""
    failed = [gate for gate in gates if not gate.passed]
    reason, others = (obstacle, failed) if obstacle or not failed else (failed[0].detail, failed[1:])
    return reason + (f"; also failed: {', '.join(gate.name for gate in others)}" if others else "")


def _passed(gates: Sequence[Gate]) -> str:
    """How the first gate was passed, and the names of the others."""
    first, *others = gates
    return first.detail + (f"; also passed: {', '.join(gate.name for gate in others)}" if others else "")


def _aligned(predictions: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The predictions for the recordings of ``rows``, in their order, with their labels and groups."""
    aligned = predictions.drop_duplicates("recording_id").set_index("recording_id").reindex(rows["recording_id"])
    return aligned.reset_index().assign(label=rows["label"], group=rows["group"])


def _at_least(name: str, what: str, value: float, least: float) -> Gate:
    if np.isnan(value):
        return Gate(name=name, value=None, bound=least, passed=False, detail=f"no held-out recording for the {what}")
    passed = bool(value >= least)
    detail = f"{what} {value:.3f}, {'not ' if passed else ''}below {least:g}"
    return Gate(name=name, value=value, bound=least, passed=passed, detail=detail)


def _of_several_subjects(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose class has at least two subjects among them."""
    return rows[rows.groupby("label")["group"].transform("nunique") > 1]


def _names(names: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, names)))
