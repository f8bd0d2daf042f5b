"""Pickles in the place of what heartbeat reads: none is loaded. Cached results and models have files of their own."""

import contextlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from heartdata.audio.decode import decode
from heartdata.config_file import build_config
from heartdata.dataset.spectrogram_shards import open_shard
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.serving.predictor import Predictor
from heartdata.sources.archives import unpack
from heartdata.sources.corrections import read_corrections
from heartdata.sources.table.readers import SUFFIXES
from heartdata.storage.hash_cache import HashCache
from heartdata.storage.store import Store, read_parquet, sha256_file
from heartdata.training.checkpoint import load_checkpoint
from heartdata.training.network import build_net, read_weights


class Planter:
    """Files whose loading as a pickle would leave a trace, in each format that may hold one."""

    def __init__(self, planted) -> None:
        self.planted = planted

    def numpy(self, path: Path) -> Path:
        np.save(path, np.array([self.planted], object), allow_pickle=True)
        return path

    def torch(self, path: Path) -> Path:
        torch.save({"net.conv1.weight": self.planted}, path)
        return path

    def joblib(self, path: Path) -> Path:
        joblib.dump([self.planted], path)
        return path

    def pandas(self, path: Path) -> Path:
        pd.DataFrame({"a": [self.planted]}, dtype=object).to_pickle(path)
        return path

    def arrow(self, path: Path) -> Path:
        """Parquet with a column of the extension type that pyarrow once unpickled."""
        metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": self.planted.pickle}
        schema = pa.schema([pa.field("uri", pa.string(), metadata=metadata)])
        pq.write_table(pa.table([["a"]], schema=schema), path)
        return path

    def bare(self, path: Path) -> Path:
        path.write_bytes(self.planted.pickle)
        return path


KINDS = ("numpy", "torch", "joblib", "pandas", "arrow", "bare")


@pytest.fixture
def plant(planted) -> Planter:
    return Planter(planted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_file_runs_code_where_it_is_loaded_as_a_pickle(kind: str, plant: Planter, planted, tmp_path: Path):
    path = getattr(plant, kind)(tmp_path / "x.npy")
    loaders = {
        "numpy": lambda: np.load(path, allow_pickle=True), "torch": lambda: torch.load(path, weights_only=False),
        "joblib": lambda: joblib.load(path), "pandas": lambda: pd.read_pickle(path), "bare": lambda: pickle.loads(path.read_bytes()),
        "arrow": lambda: pickle.loads(pq.read_schema(path).field(0).metadata[b"ARROW:extension:metadata"]),
    }  # fmt: skip
    loaders[kind]()
    assert planted.executed


@pytest.mark.parametrize("kind", KINDS)
def test_no_reader_of_files_loads_it(kind: str, plant: Planter, planted, store: Store, tmp_path: Path):
    def at(name: str) -> Path:
        path = tmp_path / "planted" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        return getattr(plant, kind)(path.with_suffix(".npy")).rename(path)

    shard = at("shard.npy")
    shutil.copyfile(shard, store.root / "shard.npy")
    config = tmp_path / "config.json"
    config.write_text("{}")
    readers: dict[str, Callable[[], object]] = {
        "a shard": lambda: open_shard("shard.npy", sha256_file(shard), None, store),
        "weights": lambda: read_weights(at("w.safetensors")),
        "a model": lambda: Predictor.load(at("w.safetensors"), config),
        "settings of a model": lambda: Predictor.load(config, at("c.json")),
        "a table of the store": lambda: read_parquet(at("t.parquet")),
        "a recording": lambda: decode(shard.read_bytes()),
        "settings": lambda: build_config(file=at("settings.yaml")),
        **{f"corrections as {suffix}": lambda suffix=suffix: read_corrections(at(f"c{suffix}")) for suffix in SUFFIXES},
        **{f"a table as {suffix}": lambda suffix=suffix: listed(at(f"t{suffix}"), tmp_path) for suffix in SUFFIXES},
        "a table as .pkl": lambda: listed(at("t.pkl"), tmp_path),
        "a folder": lambda: listed(at("murmur.npy").parent, tmp_path),
        "an archive": lambda: unpack(at("a.zip"), tmp_path / "unpacked", 10**9),
    }
    for name, read in readers.items():
        with contextlib.suppress(HeartbeatError, BadAudio, ValueError, pa.ArrowException, OSError):
            read()
        assert not planted.executed, name


def listed(data: Path, folder: Path) -> object:
    return build_config("table", str(data)).source.listing(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_lost_is_made_again(kind: str, plant: Planter, planted, tmp_path: Path):
    getattr(plant, kind)(tmp_path / "x.npy").rename(tmp_path / "cache.parquet")
    assert HashCache(tmp_path / "cache.parquet")._rows == {}
    getattr(plant, kind)(tmp_path / "x.npy").rename(tmp_path / "checkpoint")
    progress, state = load_checkpoint(tmp_path / "checkpoint", build_net(2))
    assert (progress.rows, state) == ([], {})
    assert not planted.executed


def test_settings_in_yaml_make_no_objects(planted, tmp_path: Path):
    (tmp_path / "settings.yaml").write_text(f"store: !!python/object/apply:os.system ['{planted.shell}']\n")
    with pytest.raises(HeartbeatError):
        build_config(file=tmp_path / "settings.yaml")
    assert not planted.executed
