"""The plot of benchmarks/nights.py: what the store holds, how long nights take, the databases, champions and refusals."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

MARKS = {"promoted": ("^", "new champion"), "refused": ("x", "data refused")}


def draw(rows: pd.DataFrame, kinds: Sequence[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    nights, databases = rows["night"], [kind for kind in kinds if "database" in kind]
    figure, (sizes, times, bases) = plt.subplots(3, 1, figsize=(9, 10), sharex=True, constrained_layout=True)
    sizes.stackplot(nights, [rows[kind] / 1e6 for kind in kinds], labels=list(kinds))
    top = rows[list(kinds)].sum(axis=1).max() / 1e6
    for name, (marker, label) in MARKS.items():
        marked = nights[rows[name]]
        sizes.scatter(marked, [1.05 * top] * len(marked), marker=marker, color="black", s=25, label=label)
    sizes.set_ylabel("store, MB")
    sizes.set_ylim(0, 1.1 * top)
    sizes.legend(loc="lower right", fontsize=8, ncols=2)
    audio = sizes.twinx()
    audio.plot(nights, rows["audio"] / 1e6, color="black", linewidth=1)
    audio.set_ylabel("accepted recordings, MB of audio (line)")
    audio.set_ylim(0)
    for label, group in rows.groupby(rows["event"].where(rows["event"] == "empty", "with changes"), sort=False):
        name = "nothing new" if label == "empty" else str(label)
        times.scatter(group["night"], group["seconds"], s=18, label=f"run, {name}")
    times.plot(nights, rows["prune_seconds"], color="grey", linewidth=1, label="prune")
    times.set_ylabel("seconds")
    times.set_ylim(0)
    times.legend(fontsize=8, ncols=3)
    for kind in databases:
        bases.plot(nights, rows[kind] / 1e6, label=kind)
    bases.set_ylabel("databases, MB")
    bases.set_xlabel("night")
    bases.set_ylim(0)
    bases.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
