"""Search the recordings for near-duplicates; those that an earlier search compared are not compared again."""

from contextlib import suppress

import pyarrow as pa

from heartdata.checks.near_duplicates import Search, near_duplicates
from heartdata.errors import StoreError
from heartdata.settings import sha256_json
from heartdata.storage.schemas import FACTS, PAIRS, SEARCHED
from heartdata.storage.store import Artifact, Store, table_from_frame
from tasks.engine.progress import track
from tasks.engine.stage import stage
from tasks.engine.versions import STAGES

EARLIER = 8  # searches that are looked at
SUFFIX = ".searched.parquet"


@stage("near-duplicates", timeout_s=None)
def find_near_duplicates(facts: Artifact, threshold: float, store: Store) -> Artifact:
    """The pairs of recordings of one sound (schema PAIRS), see `heartdata.checks.near_duplicates`."""
    with track("near-duplicates", unit="recordings") as advance:
        measured = store.read_table(facts, FACTS).select(["sha256", "fingerprint"]).to_pandas()
        total = len(measured)
        folder = f"near-duplicates/v{STAGES['near-duplicates'].version}-{sha256_json(threshold)[:12]}"
        known = _best_known(folder, set(measured["sha256"]), store)
        search = near_duplicates(measured, threshold, known, lambda share: advance(int(share * total), total))
        stem = f"{folder}/{sha256_json(search.searched.to_numpy().tolist())[:20]}"
        pairs = store.write_table("", table_from_frame(search.pairs, PAIRS), PAIRS, name=f"{stem}.parquet")
        searched = table_from_frame(search.searched, SEARCHED)
        store.write_table("", searched, SEARCHED, name=stem + SUFFIX)  # last: with it the search is complete
        advance(total, total, f"{pairs.rows} pairs")
        return pairs


def _best_known(folder: str, wanted: set[str], store: Store) -> Search | None:
    """Of the newest searches that can be read, the one that has most of the recordings ``wanted``."""
    entries = sorted((e for e in store.entries(folder) if e.name.endswith(SUFFIX)), key=lambda e: -e.modified_s)
    best, most = None, 0
    for entry in entries[:EARLIER]:
        with suppress(OSError, pa.ArrowException, StoreError):
            searched = store.read_table(entry.name, SEARCHED).to_pandas()
            common = len(wanted.intersection(searched["sha256"]))
            if common > most:
                pairs = store.read_table(entry.name.removesuffix(SUFFIX) + ".parquet", PAIRS).to_pandas()
                best, most = Search(searched, pairs), common
    return best
