"""The plot of benchmarks/nights.py: what the store holds, how long nights take, the databases."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

LABELS = {"empty": "nothing new", "new": "new recordings"}


def draw(rows: pd.DataFrame, kinds: Sequence[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    databases = [kind for kind in kinds if "database" in kind]
    figure, (sizes, times, bases) = plt.subplots(3, 1, figsize=(9, 10), sharex=True, constrained_layout=True)
    sizes.stackplot(rows["night"], [rows[kind] / 1e6 for kind in kinds], labels=list(kinds))
    sizes.set_ylabel("store, MB")
    sizes.legend(loc="upper left", fontsize=8, ncols=2)
    recordings = sizes.twinx()
    recordings.plot(rows["night"], rows["recordings"], color="black", linewidth=1)
    recordings.set_ylabel("recordings (line)")
    recordings.set_ylim(0)
    for event, group in rows.groupby("event", sort=False):
        name = LABELS.get(str(event), str(event))
        times.scatter(group["night"], group["seconds"], s=18, label=name)
    times.set_ylabel("seconds of a run")
    times.set_ylim(0)
    times.legend(fontsize=8, ncols=3)
    for kind in databases:
        bases.plot(rows["night"], rows[kind] / 1e6, label=kind)
    bases.set_ylabel("databases, MB")
    bases.set_xlabel("night")
    bases.set_ylim(0)
    bases.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
