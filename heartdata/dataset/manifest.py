"""The manifest: one row for each recording of the data set. Its content digest is the data set version."""

import pyarrow as pa

from heartdata.dataset.splits import check_no_leak
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import table_from_frame


def build_manifest(accepted: pa.Table, splits: pa.Table, spectrograms: pa.Table) -> pa.Table:
    """Join the stages' rows (schemas ACCEPTED, SPLITS, SPECTROGRAMS) to schema MANIFEST, sorted by id.

    Raises `LeakError` when a group is in two parts, `StoreError` when a recording has no spectrogram.
    """
    table = (
        splits.to_pandas()[["recording_id", "group", "part", "fold"]]
        .merge(accepted.to_pandas(), on="recording_id", validate="one_to_one")
        .merge(spectrograms.to_pandas(), on="sha256", how="left", validate="many_to_one")
        .sort_values("recording_id", ignore_index=True)
    )
    if len(table) != splits.num_rows or table["shard"].isna().any():
        raise StoreError("some recordings of the split have no spectrogram: run again to render them")
    check_no_leak(table)
    return table_from_frame(table, MANIFEST)
