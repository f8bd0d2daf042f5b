"""The stage that searches for near-duplicates continues from the earlier search that has most of the recordings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heartdata.audio.measurements import MeasureConfig
from heartdata.storage.schemas import CONFIRMED_PAIRS, FACTS, RECORDINGS
from heartdata.storage.store import Artifact, Store, table_from_frame, table_from_rows
from tasks import near_duplicates as module
from tasks.near_duplicates import find_near_duplicates


def test_a_search_continues_from_an_earlier_one_also_when_that_is_damaged(tmp_path: Path, monkeypatch):
    store, known = Store(str(tmp_path)).open(), []
    codes = np.random.default_rng(0).integers(1, 256, (6, 400), dtype=np.uint8)
    codes[5] = codes[0]
    listed = [{"recording_id": name, "sha256": name, "uri": f"{tmp_path}/no/{name}.wav"} for name in "abcdef"]
    recordings = store.write_table("recordings", table_from_rows(listed, RECORDINGS), RECORDINGS)
    rows = pd.DataFrame({"sha256": list("abcdef"), "fingerprint": [2 * c.tobytes() for c in codes]})

    def facts(wanted: str) -> Artifact:
        table = rows[rows["sha256"].isin(list(wanted))].reindex(columns=FACTS.names)
        return store.write_table("facts", table_from_frame(table, FACTS), FACTS)

    search = module.near_duplicates
    monkeypatch.setattr(module, "near_duplicates", lambda f, t, k, p: known.append(k) or search(f, t, k, p))

    def pairs(wanted: str) -> list[list[str]]:
        pairs = find_near_duplicates.fn(recordings, facts(wanted), 0.98, MeasureConfig(), store)
        found = store.read_frame(pairs, CONFIRMED_PAIRS)
        assert found["confirmed"].all()
        assert found["waveform"].isna().all()  # the files cannot be read
        return found[["sha256_a", "sha256_b"]].to_numpy().tolist()

    assert pairs("abcde") == []
    assert pairs("abcdef") == [["a", "f"]]
    assert pairs("bcdef") == []
    assert [None if k is None else len(k.searched) for k in known] == [None, 5, 6]
    for path in tmp_path.rglob("*.searched.parquet"):
        path.write_bytes(b"damaged")
    assert pairs("abcdef") == [["a", "f"]]
    assert known[-1] is None


@pytest.mark.parametrize(("waveform", "final"), [(None, False), (0.95, True)])
def test_pairs_whose_files_could_not_be_read_are_compared_again(tmp_path: Path, waveform: float | None, final: bool):
    store = Store(str(tmp_path)).open()
    pair = {"sha256_a": "a", "sha256_b": "b", "waveform": waveform, "confirmed": True, "alike": True}
    pairs = store.write_table("pairs", table_from_rows([pair], CONFIRMED_PAIRS), CONFIRMED_PAIRS)
    assert module._is_final(pairs, store) is final
