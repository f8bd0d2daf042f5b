"""Which recordings belong together: those of one subject, and subjects that something connects."""

import pandas as pd


def subject_units(table: pd.DataFrame) -> pd.Series:
    """The subject within its source, or the recording itself when the subject is unknown."""
    return table["source"] + "/" + table["subject"].where(table["subject"].notna(), "recording " + table["sha256"])


def connected_groups(units: pd.Series, shared: pd.Series) -> list[set[str]]:
    """The ``units`` in disjoint groups: those of rows with the same value of ``shared`` are in one group."""
    from scipy.cluster.hierarchy import DisjointSet  # slow to load, also where only settings are needed

    connected = DisjointSet(units)
    for _, (first, *others) in units.groupby(shared):
        for other in others:
            connected.merge(first, other)
    return connected.subsets()
