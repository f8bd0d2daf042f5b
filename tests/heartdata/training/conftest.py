"""A small network and a small data set for the tests of training."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from helpers import beats, tone, use_small_network

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.storage.store import Store


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_small_network(patch)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> tuple[pd.DataFrame, Store]:
    """Manifest rows of recordings with a low or a high tone, eight to train, four to validate, four to test."""
    store = Store(tmp_path_factory.mktemp("training")).open()
    spectrograms = [
        log_mel(beats(duration_s=2.0, seed=i) + tone((60, 300)[i % 2], 2.0, level=0.1), 4000, SpectrogramConfig())
        for i in range(16)
    ]
    frames = np.array([len(spectrogram) for spectrogram in spectrograms])
    manifest = pd.DataFrame(
        {
            "recording_id": [f"r{i}" for i in range(16)],
            "group": [f"g{i}" for i in range(16)],
            "label": ["high", "low"] * 8,
            "part": ["train"] * 8 + ["valid"] * 4 + ["test"] * 4,
            "shard": "s.npy",
            "start": frames.cumsum() - frames,
            "frames": frames,
            "shard_sha256": store.write_array("s.npy", np.concatenate(spectrograms)),
        }
    )
    return manifest, store
