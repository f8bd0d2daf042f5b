"""The counts behind `heartbeat inspect`: what each class holds, and how many recordings a run would refuse."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.checks.suite import ValidationConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import FACTS

UNLABELLED = "(unlabelled)"
HINTS = ("no_file", "undecodable", "silent", "clipped")  # columns that count recordings that a run would refuse


def measured(
    recordings: pd.DataFrame,
    config: MeasureConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """``recordings`` (schema RECORDINGS) joined with the facts of each file (schema FACTS), measured in threads.

    The label of unlabelled ones is `UNLABELLED`. Raises `HeartbeatError` when a file cannot be read.
    """
    files = recordings.dropna(subset=["sha256"]).drop_duplicates("sha256")
    rows: list[dict[str, object]] = []
    with ThreadPoolExecutor() as pool:
        try:
            facts = pool.map(lambda uri, sha256: measure_file(uri, sha256, config), files["uri"], files["sha256"])
            for done, row in enumerate(facts, 1):
                rows.append(row)
                progress(done, len(files))
        except OSError as error:
            raise HeartbeatError(f"{error.filename} cannot be read ({error.strerror}): run again") from error
        finally:
            pool.shutdown(cancel_futures=True)
    measures = pd.DataFrame(rows, columns=FACTS.names)
    return recordings.assign(label=recordings["label"].fillna(UNLABELLED)).merge(measures, on="sha256", how="left")


def by_class(frame: pd.DataFrame, config: ValidationConfig) -> list[dict[str, Any]]:
    """One row per class of a table from `measured`, and one of all; ``config`` says what counts as silent or clipped."""
    rows = [_counts(label, part, config) for label, part in frame.groupby("label", sort=True)]
    return rows if len(rows) == 1 else [*rows, _counts("all", frame, config)]


def unreadable(frame: pd.DataFrame) -> str | None:
    """Why there is nothing to draw: no recording of a table from `measured` can be decoded; None if one can."""
    if frame["finite"].eq(True).any():
        return None
    faults = frame["missing"].fillna(frame["error"]).dropna()
    example = f"; for example {frame.loc[faults.index[0], 'recording_id']}: {faults.iloc[0]}" if len(faults) else ""
    return f"none of the {len(frame)} recordings can be read{example}"


def few_classes(frame: pd.DataFrame) -> str | None:
    """That `heartbeat run` would refuse recordings of fewer than two classes; None if there are two."""
    labels = sorted(set(frame["label"]) - {UNLABELLED})
    if len(labels) > 1:
        return None
    return f"`heartbeat run` would refuse these: it needs at least two labels, and there is {labels[0] if labels else 'none'}"


def _counts(label: Any, part: pd.DataFrame, config: ValidationConfig) -> dict[str, Any]:
    duration_s = part["duration_s"].dropna().astype(float)
    silent = (part["peak"] < config.min_peak) | (part["silent_fraction"] > config.max_silent_fraction)
    return {
        "label": label,
        "recordings": len(part),
        "subjects": int(part["subject"].nunique()),
        "minutes": round(float(duration_s.sum()) / 60, 1),
        "median_s": round(float(duration_s.median()), 1) if len(duration_s) else "",
        "rates_hz": _values(part["rate_hz"]),
        "channels": _values(part["channels"]),
        "no_file": int(part["missing"].notna().sum()),
        "undecodable": int(part["error"].notna().sum()),
        "silent": int(silent.sum()),
        "clipped": int((part["clipped_fraction"] > config.max_clipped_fraction).sum()),
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
