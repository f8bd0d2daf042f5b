"""Stage 4: parts in which no subject stands twice."""

import pyarrow.compute as pc

from heartdata.dataset.split_strategies import UNLABELLED
from heartdata.dataset.splits import SplitConfig, assign_splits, in_use
from heartdata.storage.schemas import ACCEPTED, RECORDINGS, SPLITS
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import track
from tasks.engine.stage import stage


@stage("split")
def split(accepted: Artifact, config: SplitConfig, store: Store, recordings: Artifact | None = None) -> Artifact:
    """Which part each labelled recording is in (schema SPLITS); a leak is refused.

    ``recordings`` holds the columns that the strategy ``column`` reads.
    """
    with track("split") as advance:
        usable = store.read_table(accepted, ACCEPTED)
        listed = store.read_table(recordings, RECORDINGS) if recordings else None
        table = assign_splits(usable, config, listed)
        sizes = table.to_pandas().groupby("part")["group"].nunique()
        told = ", ".join(f"{sizes[p]} subjects to {p}" for p in ("train", "valid", "test"))
        loose = pc.sum(pc.equal(table["part"], UNLABELLED)).as_py() or 0
        left_out = len(in_use(usable, config)) - (table.num_rows - loose)
        told += f", {loose} recordings without a label to train on" if config.unlabelled else ""
        advance(1, 1, told + (f", {left_out} recordings left out" if left_out else ""))
        return store.write_table("splits", table, SPLITS)
