"""Stage 4: parts in which no subject stands twice."""

from heartdata.schemas import ACCEPTED, RECORDINGS, SPLITS
from heartdata.splits import VERSION, SplitConfig, assign_parts, in_use
from heartdata.store import Artifact, Store
from tasks.progress import track
from tasks.stage import stage


@stage("split", VERSION)
def split(accepted: Artifact, config: SplitConfig, store: Store, recordings: Artifact | None = None) -> Artifact:
    """Which part each labelled recording is in (schema SPLITS); a leak is refused.

    ``recordings`` holds the columns that the strategy ``column`` reads.
    """
    with track("split") as advance:
        usable = store.read_table(accepted, ACCEPTED)
        listed = store.read_table(recordings, RECORDINGS) if recordings else None
        table = assign_parts(usable, config, listed)
        sizes = table.to_pandas().groupby("part")["group"].nunique()
        told = ", ".join(f"{sizes[p]} subjects to {p}" for p in ("train", "valid", "test"))
        left_out = len(in_use(usable, config)) - table.num_rows
        advance(1, 1, told + (f", {left_out} recordings left out" if left_out else ""))
        return store.write_table("splits", table, SPLITS)
