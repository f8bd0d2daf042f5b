"""Search the recordings for near-duplicates and compare their waveforms; what earlier runs compared is not compared again."""

from contextlib import suppress

import pandas as pd
import pyarrow as pa

from heartdata.audio.measurements import MeasureConfig, facts_folder, sound_reader
from heartdata.checks.near_duplicates import Search, near_duplicates
from heartdata.checks.waveforms import confirm
from heartdata.errors import StoreError
from heartdata.settings import sha256_json
from heartdata.storage.schemas import CONFIRMED_PAIRS, FACTS, PAIRS, RECORDINGS, SEARCHED
from heartdata.storage.store import Artifact, Store, table_from_frame
from tasks.engine.progress import track
from tasks.engine.stage import files_intact, stage
from tasks.engine.versions import STAGES

EARLIER = 8  # searches that are looked at
SUFFIX = ".searched.parquet"


def _is_final(pairs: Artifact, store: Store) -> bool:
    """Whether the waveforms of all pairs were compared; files that could not be read then are tried again."""
    return files_intact(pairs, store) and not store.read_frame(pairs, CONFIRMED_PAIRS)["waveform"].isna().any()


@stage("near-duplicates", timeout_s=None, valid=_is_final)
def find_near_duplicates(
    recordings: Artifact, facts: Artifact, threshold: float, config: MeasureConfig, store: Store
) -> Artifact:
    """The pairs of recordings of one sound, and whether their waveforms confirm it (schema CONFIRMED_PAIRS)."""
    with track("near-duplicates", unit="recordings") as advance:
        measured = store.read_table(facts, FACTS).select(["sha256", "fingerprint"]).to_pandas()
        total = len(measured)
        folder = f"near-duplicates/v{STAGES['near-duplicates'].version}-{sha256_json([threshold, facts_folder(config)])[:12]}"
        known, known_pairs = _best_known(folder, set(measured["sha256"]), store)
        search = near_duplicates(measured, threshold, known, lambda share: advance(int(share * total), total))
        confirmed = confirm(
            search.pairs, sound_reader(store.read_table(recordings, RECORDINGS), config), known_pairs,
            lambda done, pairs: advance(total - 1, total, f"{done} of {pairs} new pairs compared"),
        )  # fmt: skip
        stem = f"{folder}/{sha256_json(search.searched.to_numpy().tolist())[:20]}"
        table = table_from_frame(confirmed, CONFIRMED_PAIRS)
        pairs = store.write_table("", table, CONFIRMED_PAIRS, name=f"{stem}.parquet")
        searched = table_from_frame(search.searched, SEARCHED)
        store.write_table("", searched, SEARCHED, name=stem + SUFFIX)  # last: with it the search is complete
        advance(total, total, f"{pairs.rows} pairs, {confirmed['confirmed'].sum()} confirmed")
        return pairs


def _best_known(folder: str, wanted: set[str], store: Store) -> tuple[Search | None, pd.DataFrame | None]:
    """Of the newest searches that can be read, the one that has most of the recordings ``wanted``, and its pairs."""
    entries = sorted((e for e in store.entries(folder) if e.name.endswith(SUFFIX)), key=lambda e: -e.modified_s)
    best, best_pairs, most = None, None, 0
    for entry in entries[:EARLIER]:
        with suppress(OSError, pa.ArrowException, StoreError):
            searched = store.read_table(entry.name, SEARCHED).to_pandas()
            common = len(wanted.intersection(searched["sha256"]))
            if common > most:
                pairs = store.read_table(entry.name.removesuffix(SUFFIX) + ".parquet", CONFIRMED_PAIRS).to_pandas()
                best, best_pairs, most = Search(searched, pairs[PAIRS.names]), pairs, common
    return best, best_pairs
