"""The counts behind `heartbeat data inspect`: what each class holds, and which recordings a run would refuse."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

UNLABELLED = "(unlabelled)"


def with_facts(recordings: pa.Table, facts: pa.Table) -> pd.DataFrame:
    """``recordings`` with their facts; the label of unlabelled ones is `UNLABELLED`."""
    frame = recordings.to_pandas()
    return frame.assign(label=frame["label"].fillna(UNLABELLED)).merge(facts.to_pandas(), on="sha256", how="left")


def by_class(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per class of a table from `with_facts`, and one of all."""
    rows = [_counts(label, part) for label, part in frame.groupby("label", sort=True)]
    return rows if len(rows) == 1 else [*rows, _counts("all", frame)]


def quarantined_by_class(frame: pd.DataFrame, quarantine: pd.DataFrame) -> list[dict[str, Any]]:
    """How many recordings of each class are in ``quarantine`` (schema QUARANTINE), and by which check; one row of all."""
    check = frame["recording_id"].map(quarantine.set_index("recording_id")["check"])
    counts = pd.crosstab(frame["label"], check).reindex(sorted(frame["label"].unique()), fill_value=0)
    counts.insert(0, "recordings", frame["label"].value_counts())
    counts.insert(1, "quarantined", counts.iloc[:, 1:].sum(axis=1))
    counts = counts.astype(int)
    rows = [{"label": label, **row} for label, row in counts.to_dict("index").items()]
    return rows if len(rows) == 1 else [*rows, {"label": "all", **counts.sum().to_dict()}]


def unreadable(frame: pd.DataFrame) -> str | None:
    """Why there is nothing to draw: no recording of a table from `with_facts` can be decoded; None if one can."""
    if frame["finite"].eq(True).any():
        return None
    faults = frame["missing"].fillna(frame["error"]).dropna()
    example = f"; for example {frame.loc[faults.index[0], 'recording_id']}: {faults.iloc[0]}" if len(faults) else ""
    return f"none of the {len(frame)} recordings can be read{example}"


def _counts(label: Any, part: pd.DataFrame) -> dict[str, Any]:
    duration_s = part["duration_s"].dropna().astype(float)
    return {
        "label": label,
        "recordings": len(part),
        "subjects": int(part["subject"].nunique()),
        "minutes": round(float(duration_s.sum()) / 60, 1),
        "median_s": round(float(duration_s.median()), 1) if len(duration_s) else "",
        "rates_hz": _values(part["rate_hz"]),
        "channels": _values(part["channels"]),
    }


def _values(column: pd.Series, most: int = 3) -> str:
    """The commonest values, the most frequent first, then the smallest."""
    counts = column.dropna().astype(int).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return ", ".join([*counts.index[:most].astype(str), *["..."] * (len(counts) > most)])


def examples(frame: pd.DataFrame, each: int, seed: int) -> dict[str, pd.DataFrame]:
    """Up to ``each`` decodable recordings per class, chosen by ``seed`` independently of their order."""
    usable = frame[frame["finite"].eq(True)].sort_values("recording_id").drop_duplicates("sha256")
    chosen = {}
    for label, part in usable.groupby("label", sort=True):
        places = np.random.default_rng(seed).permutation(len(part))[:each]
        chosen[str(label)] = part.iloc[np.sort(places)]
    return chosen
