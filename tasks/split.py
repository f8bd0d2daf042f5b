"""Split by subject: no subject is in two parts."""

import pyarrow.compute as pc

from heartdata.dataset.split_strategies import UNLABELLED
from heartdata.dataset.splits import SplitConfig, assign_splits, in_use
from heartdata.storage.schemas import ACCEPTED, RECORDINGS, SPLITS
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import track
from tasks.engine.stage import stage


@stage("split")
def split(accepted: Artifact, config: SplitConfig, store: Store, recordings: Artifact | None = None) -> Artifact:
    """Assign each labelled recording to a part (schema SPLITS); leakage is refused.

    ``recordings`` holds the columns that the strategy ``column`` reads.
    """
    with track("split") as advance:
        usable = store.read_table(accepted, ACCEPTED)
        listed = store.read_table(recordings, RECORDINGS) if recordings else None
        table = assign_splits(usable, config, listed)
        sizes = table.to_pandas().groupby("part")["group"].nunique()
        linked = ", those linked by near-duplicates as one" if usable["near_group"].null_count < usable.num_rows else ""
        detail = f"subjects{linked}: {sizes['train']} train, {sizes['valid']} validation, {sizes['test']} test"
        unlabelled = pc.sum(pc.equal(table["part"], UNLABELLED)).as_py() or 0
        left_out = len(in_use(usable, config)) - (table.num_rows - unlabelled)
        detail += f", {unlabelled} unlabelled recordings to train on" if config.unlabelled else ""
        advance(1, 1, detail + (f", {left_out} recordings left out" if left_out else ""))
        return store.write_table("splits", table, SPLITS)
