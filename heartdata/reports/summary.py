"""The summary of a run: its tables as plain rows, the notes on its scores, and the page in Markdown."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
from pydantic import BaseModel

from heartdata.checks.groups import subject_units
from heartdata.dataset.split_strategies import PARTS, UNLABELLED
from heartdata.dataset.splits import SplitConfig
from heartdata.markdown import code, escape, markdown_table
from heartdata.scoring.metrics import DIFFERENCE
from heartdata.scoring.model_names import NETWORK
from heartdata.scoring.promotion import BETTER_THAN, Decision
from heartdata.scoring.text import metric_label, with_bounds

FEW_SUBJECTS = 20
FEW_OF_CLASS = 5
MISSED_NAMED = 3
NO_SUBJECT = "no subject: each counts as its own"
OUTCOMES = {"promoted": "promoted to champion", "kept": "not promoted", "cannot decide": "no decision"}
WARNED_OF = {"recording": ("recording", "recordings"), "subject": ("subject", "subjects")}  # by a check's level


class Summary(BaseModel):
    """The tables of one run as plain rows, for the terminal, the Prefect page and tests.

    ``nothing_new``: a sentence, where the version and the decision on it are an earlier run's.
    """

    recordings: list[dict[str, Any]]
    subjects: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    per_class: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    planted: list[dict[str, Any]]
    seconds: dict[str, float]
    notes: list[str]
    dataset_version: str
    model: str
    model_version: int
    model_url: str
    run_id: str
    data_docs: str
    latest: str
    report: str
    decision: Decision | None = None
    nothing_new: str = ""

    @property
    def headline(self) -> str:
        """What became of the version, in a sentence."""
        version = f"{self.model} version {self.model_version}"
        if self.decision is None:
            return f"{version} is the challenger"
        return self.nothing_new or f"{version}: {decision_sentence(self.decision)}"

    def score_rows(self) -> list[dict[str, str]]:
        """One row per metric: each model's value with its interval."""
        rows: dict[str, dict[str, str]] = {}
        for score in self.scores:
            row = rows.setdefault(score["metric"], {"metric": metric_label(score["metric"])})
            row[score["model"]] = with_bounds(score["value"], score["low"], score["high"])
        return list(rows.values())


def summary_page(summary: Summary, source: str, served_by: str = "") -> str:
    """The summary as one page; ``served_by`` says what must run for the link to MLflow to open."""
    sections = [
        f"# {source}: {escape(summary.model)} version {summary.model_version}",
        escape(summary.headline),
        f"The report, with recordings to listen to: {code(summary.report)}.",
        f"[Open the model in MLflow]({summary.model_url}){served_by} · run `{summary.run_id}` · "
        f"data set version `{summary.dataset_version[:12]}`",
        *[f"> {escape(note)}" for note in summary.notes],
        *_decision_sections(summary),
        "## Recordings",
        markdown_table(summary.recordings),
        "## Subjects and recordings of each part",
        markdown_table(summary.subjects),
        "## Scores on held-out subjects (95 % interval, bootstrap over subjects)",
        markdown_table(summary.score_rows()),
        f"## Each class ({NETWORK}, held-out subjects)",
        markdown_table(summary.per_class),
    ]
    if summary.quarantine:
        sections += [f"## Quarantined ({len(summary.quarantine)})", markdown_table(summary.quarantine[:50])]
    sections += [
        "## Seconds",
        markdown_table([{"stage": k, "seconds": f"{v:.1f}"} for k, v in summary.seconds.items()]),
        f"Data Docs: {code(summary.data_docs)}. Files: {code(summary.latest)}.",
        "Research use only; not a medical device.",
    ]
    return "\n\n".join(sections) + "\n"


def _decision_sections(summary: Summary) -> list[str]:
    decision = summary.decision
    if decision is None or not decision.gates:
        return []
    return [
        "## The decision",
        *([escape(decision_sentence(decision))] if summary.nothing_new else []),
        markdown_table(gate_rows(decision)),
    ]


def decision_sentence(decision: Decision) -> str:
    """The outcome and the reason."""
    return f"{OUTCOMES[decision.outcome]}: {decision.reason}"


def gate_rows(decision: Decision) -> list[dict[str, Any]]:
    """A row a gate: its value, its bound, whether it was passed, and why."""
    return [
        {
            "gate": gate.name,
            "value": "unknown" if gate.value is None else _number(gate.value),
            "bound": "none" if gate.bound is None else _number(gate.bound),
            "passed": "passed" if gate.passed else "failed",
            "detail": gate.detail,
        }
        for gate in decision.gates
    ]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def recordings_by_class(
    listed: pd.DataFrame, accepted: pd.DataFrame, quarantine: pd.DataFrame, manifest: pd.DataFrame
) -> list[dict[str, Any]]:
    """How many recordings of each class came through each stage."""
    frames = {"found": listed, "accepted": accepted, "quarantined": quarantine, "in use": manifest}
    counts = {name: frame["label"].fillna("(unlabelled)").value_counts() for name, frame in frames.items()}
    rows = pd.DataFrame(counts).fillna(0).astype(int).sort_index()
    by_class = [{"label": _distinct(name, ("all",)), **row} for name, row in rows.to_dict("index").items()]
    return [*by_class, {"label": "all", **rows.sum().to_dict()}]


def subjects_by_part(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """The recordings of each class, all recordings and all subjects, in each part."""
    by_part = {part: manifest[manifest["part"] == part] for part in (*PARTS, UNLABELLED)}
    shown = {part: rows for part, rows in by_part.items() if part != UNLABELLED or len(rows)}
    return [
        *(
            {"label": _distinct(name, ("all", "subjects"))}
            | {part: int((rows["label"] == name).sum()) for part, rows in shown.items()}
            for name in sorted(manifest["label"].dropna().unique())
        ),
        {"label": "all"} | {part: len(rows) for part, rows in shown.items()},
        {"label": "subjects"} | {part: rows["group"].nunique() for part, rows in shown.items()},
    ]


def _distinct(label: str, taken: Collection[str]) -> str:
    """A label, marked as one if it is also the name of a row in ``taken``."""
    return f"{label} (label)" if label in taken else label


def planted_faults(listed: pd.DataFrame, quarantine: pd.DataFrame) -> list[dict[str, Any]]:
    """The demo's planted faults, and whether each was caught for its own reason."""
    planted = {
        row.recording_id: fault
        for row in listed[listed["source"] == "demo"].itertuples()
        if (fault := json.loads(row.extra).get("planted"))
    }
    checks = quarantine.set_index("recording_id")["check"].to_dict()
    return [{"fault": fault, "recording": name, "caught": checks.get(name) == fault} for name, fault in planted.items()]


def data_notes(
    listed: Mapping[str, Any], checks: pd.DataFrame, accepted: pd.DataFrame, manifest: pd.DataFrame, split: SplitConfig,
    metrics: pd.DataFrame, per_class: Mapping[str, Mapping[str, float]], of_model: str, decision: Decision | None = None,
) -> list[str]:  # fmt: skip
    """What limits the data and the scores: from the inventory's counts ``listed``, the tables, and the model's notes.

    ``decision``: what its gates say of the baselines is not said again.
    """
    of_source = [str(text) for name, text in listed.items() if name.startswith("note_")]
    of_data = data_set_notes(accepted, manifest, split)
    if any("counts as" in text for text in of_source):  # it says more: which, and what to do
        of_data = [text for text in of_data if not text.endswith(NO_SUBJECT)]
    return [
        *check_warnings(checks, accepted),
        *of_source,
        *of_data,
        *baseline_note(metrics, decision),
        *of_model.splitlines(),
        *missed_classes(per_class),
    ]


def check_warnings(checks: pd.DataFrame, accepted: pd.DataFrame) -> list[str]:
    """The failed checks of severity warning in one sentence; of recordings, the ``accepted`` ones are counted."""
    failed = checks[(checks["severity"] == "warning") & ~checks["passed"].astype(bool)]
    marked = accepted["warnings"].fillna("").str.split(", ").explode().value_counts()
    counts: dict[tuple[str, str], int] = {}  # by kind and check, which each source with bounds of its own has once
    for row in failed.itertuples():
        kind = row.level.split()[0]
        count = int(marked.get(row.check, 0) if kind == "recording" else row.failing)
        counts |= {(kind, row.check): count} if count else {}
    warnings, before = [], ""
    for (kind, check), count in counts.items():
        one, several = WARNED_OF.get(kind, ("quantity", "quantities"))
        unit = "" if one == before else f" {one if count == 1 else several}"  # named once
        warnings.append(f"{check.replace('_', ' ')}: {count}{unit}")
        before = one
    return [f"The checks warn ({', '.join(warnings)}): the Data Docs say which"] if warnings else []


def data_set_notes(accepted: pd.DataFrame, manifest: pd.DataFrame, split: SplitConfig) -> list[str]:
    """Which accepted recordings were not used, and what limits the scores on the test part."""
    notes = []
    unused = accepted[accepted["label"].notna() & ~accepted["recording_id"].isin(manifest["recording_id"])]
    others = unused[~unused["collection"].isin(split.collections)] if split.collections is not None else unused[:0]
    if len(others):
        names = ", ".join(sorted(others["collection"].unique()))
        notes.append(f"{_labelled(len(others), f' of {names}')} checked but not used: see split.collections")
    if left_out := len(unused) - len(others):
        notes.append(f"{_labelled(left_out)} left out by split.strategy={split.strategy}")
    test = manifest[manifest["part"] == "test"]
    tested = test["group"].nunique()
    if tested < FEW_SUBJECTS:
        notes.append(
            f"Only {tested} subject{' is' if tested == 1 else 's are'} held out for testing: intervals are wide and may still be too narrow"
        )
    elif (of_class := test.groupby("label")["group"].nunique()).min() < FEW_OF_CLASS:
        notes.append(
            f"Only {of_class.min()} held-out subject{' is' if of_class.min() == 1 else 's are'} {of_class.idxmin()}: intervals may be too narrow"
        )
    labels = test.groupby(subject_units(test))["label"].nunique()
    if several := int((labels > 1).sum()):
        notes.append(
            f"Scores by subject leave out {several} held-out subject{'' if several == 1 else 's'} whose recordings have several labels"
        )
    if nameless := int(manifest["subject"].isna().sum()):
        notes.append(f"{nameless} recording{' names' if nameless == 1 else 's name'} {NO_SUBJECT}")
    return notes


def _labelled(count: int, which: str = "") -> str:
    return f"{count} labelled recording{which} was" if count == 1 else f"{count} labelled recordings{which} were"


def baseline_note(metrics: pd.DataFrame, decision: Decision | None = None) -> list[str]:
    """A note unless the network's macro-F1 is clearly above that of the best baseline, or a gate compared the two.

    Clearly: the 95 % interval of the difference, over the same resamples of subjects, is above zero. Two separate
    intervals may overlap although it is, as subjects that are hard for one model are hard for the other.
    """
    macro_f1 = metrics[metrics["metric"] == "macro_f1"].set_index("model")
    network, best = macro_f1.loc[NETWORK], macro_f1.loc[macro_f1["value"].drop(NETWORK).idxmax()]
    compared = {gate.name for gate in decision.gates} if decision else set()
    if best["difference_low"] > 0 or f"{BETTER_THAN}{best.name}" in compared:
        return []
    verdict = "worse than" if best["difference_high"] < 0 else "not clearly better than"
    return [
        f"The model is {verdict} {best.name}: macro-F1 {network['value']:.3f} against {best['value']:.3f}, "
        f"a difference of {with_bounds(*best[[*DIFFERENCE]], sign='+')}"
    ]


def missed_classes(per_class: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A note on the classes of which the network recognised no held-out recording: each, or of many their number."""
    missed = [(name, row["recordings"]) for name, row in per_class.items() if row["recordings"] and not row["recall"]]
    if len(missed) > MISSED_NAMED:
        names = ", ".join(name for name, _ in missed[:MISSED_NAMED])
        return [
            f"No held-out recording of {len(missed)} of the {len(per_class)} classes was recognised, for example of {names}"
        ]
    return [f"None of the {count:.0f} held-out recordings of {name} was recognised" for name, count in missed]
