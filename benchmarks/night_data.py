"""What happens to a growing data set in benchmarks/nights.py: recordings that come and go, and planted mistakes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import soundfile

from benchmarks.small_pipeline import make_recordings
from flows.cli.exit_codes import ExitCode

Event = Literal[
    "new", "empty", "corrupt files", "silence", "label conflict", "wrong labels", "many corrupt files", "refused table", "shrinking",
]  # fmt: skip
FIRST_SUBJECTS = 12  # of each class
GROWTH = 0.03  # of the recordings, in a night
SHRINKING = 0.08
LOST_BOUND = 0.3  # validation.max_lost_since_reference
RATE_HZ = 4000


@dataclass(frozen=True)
class Plan:
    """A night's event; ``refused``: the exit status with which the run must stop; ``quarantined``: names that must be refused;
    ``known``: whether an earlier night was trained on the same recordings and labels."""

    event: Event
    refused: ExitCode | None = None
    quarantined: tuple[str, ...] = ()
    known: bool = False


def schedule(nights: int) -> list[Event]:
    """Every third night is empty, every fourth has a mistake, each in its turn; the last sixth begins with shrinking."""
    mistakes: Iterator[Event] = cycle(
        ("corrupt files", "wrong labels", "silence", "many corrupt files", "label conflict", "refused table")
    )
    events: list[Event] = []
    for night in range(nights):
        if night % 3 == 2:
            events.append("empty")
        else:
            events.append(next(mistakes) if night % 12 in (3, 7, 10) else "new")
    start = nights * 5 // 6
    events[start : start + 5] = ["shrinking"] * len(events[start : start + 5])
    return events


class DataSet:
    """A table of recordings in a folder. Recordings are taken from a pool, subject by subject."""

    def __init__(self, folder: Path, nights: int, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        wanted = FIRST_SUBJECTS * (1 + GROWTH) ** nights
        pool = make_recordings(folder, round(wanted) + nights // 8 + 2, seed)
        pool["number"] = pool["subject"].str[1:].astype(int)
        self.pool = pool.sort_values(["number", "label"], ignore_index=True).drop(columns="number")
        self.rows = self.pool[: 4 * FIRST_SUBJECTS]
        self.pool = self.pool[len(self.rows) :]
        self.path = folder / "table.csv"
        self.trained_on: set[frozenset[tuple[str, str]]] = set()
        self.reference: set[str] = set()  # the champion's recordings, which later ones are compared with

    def night(self, number: int, event: Event) -> Plan:
        """Change the data as ``event`` says and write the table."""
        shown = self.rows
        plan = Plan(event)
        if event == "new" or event == "wrong labels":
            self._grow()
            shown = self.rows
            if event == "wrong labels":
                shown = self.rows.assign(label=self._half_wrong())
        elif event in ("corrupt files", "silence", "label conflict", "many corrupt files"):
            count = len(self.rows) // 2 if event == "many corrupt files" else 3
            bad = self._bad(number, event, count)
            shown = pd.concat([self.rows, bad], ignore_index=True)
            if event == "many corrupt files":
                plan = Plan(event, ExitCode.DATA_REFUSED)
            else:
                plan = Plan(event, quarantined=tuple(bad["path"]))
        elif event == "refused table":
            shown, plan = self.rows.drop(columns="label"), Plan(event, ExitCode.USER_ERROR)
        elif event == "shrinking":
            self.rows = self.rows.sample(frac=1 - SHRINKING, random_state=number).sort_index()
            shown = self.rows
        lost = len(self.reference - {*self.rows["path"]}) / max(len(self.reference), 1)
        if lost > LOST_BOUND and not plan.refused:  # from then on each night, until a person looks
            plan = Plan(event, ExitCode.DATA_REFUSED)
        shown.to_csv(self.path, index=False)
        if plan.refused or event == "label conflict":  # which takes the recordings that it copies with it
            return plan
        accepted = frozenset(
            zip(*(shown.loc[~shown["path"].isin(plan.quarantined), name] for name in ("path", "label")), strict=True)
        )
        known = accepted in self.trained_on
        self.trained_on.add(accepted)
        return replace(plan, known=known)

    def champion_changed(self) -> None:
        self.reference = {*self.rows["path"]}

    def _grow(self) -> None:
        count = max(1, round(GROWTH * len(self.rows)))
        self.rows = pd.concat([self.rows, self.pool[:count]], ignore_index=True)
        self.pool = self.pool[count:]

    def _half_wrong(self) -> pd.Series:
        """The labels, every second one of them that of another recording."""
        labels = self.rows["label"].copy()
        wrong = labels.index[::2]
        labels[wrong] = labels[wrong].sample(frac=1, random_state=0).to_numpy()
        return labels

    def _bad(self, number: int, event: Event, count: int) -> pd.DataFrame:
        rows = []
        for index in range(count):
            name, model = f"bad{number:03}-{index}.wav", self.rows.iloc[(number + index) % len(self.rows)]
            path, label = self.folder / name, model["label"]
            if event == "silence":
                soundfile.write(path, np.zeros(3 * RATE_HZ, np.int16), RATE_HZ)
            elif event == "label conflict":
                path.write_bytes((self.folder / model["path"]).read_bytes())
                label = next(other for other in sorted(self.rows["label"].unique()) if other != label)
            else:
                path.write_bytes(self.rng.randbytes(5000))
            rows.append({"path": name, "label": label, "subject": f"B{number}-{index}", "site": "AV"})
        return pd.DataFrame(rows)
