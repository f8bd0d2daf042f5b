"""Stage 4: parts by subject."""

from heartdata.schemas import ACCEPTED, SPLITS
from heartdata.splits import VERSION, SplitConfig, assign_parts
from heartdata.store import Artifact, Store
from tasks.progress import track
from tasks.stage import stage


@stage("split", VERSION)
def split(accepted: Artifact, config: SplitConfig, store: Store) -> Artifact:
    """Which part each labelled recording is in (schema SPLITS); a leak is refused."""
    with track("split") as advance:
        table = assign_parts(store.read_table(accepted, ACCEPTED), config)
        sizes = table.to_pandas().groupby("part")["group"].nunique()
        advance(1, 1, ", ".join(f"{sizes[p]} subjects to {p}" for p in ("train", "valid", "test")))
        return store.write_table("splits", table, SPLITS)
