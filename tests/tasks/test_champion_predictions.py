"""What a champion predicts: from tonight's spectrograms where they are its own, else from the audio, the same either way."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, write_wav

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.config import RunConfig
from heartdata.scoring.calibration import Calibration
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.storage.schemas import RECORDINGS, SPECTROGRAMS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file, table_from_rows
from heartdata.training.network import build_net
from tasks import champion_predictions
from tasks.champion_predictions import _predict
from tasks.engine import progress
from tasks.measure import measure_shard
from tasks.spectrograms import spectrogram_shard


def predictor() -> Predictor:
    """Of random weights, with a temperature and an operating point, that refuses recordings below 2 s."""
    torch.manual_seed(0)
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random",
        calibration=Calibration(temperature=0.5, class_weights=(1.0, 4.0)), accepts=RecordingBounds(min_duration_s=2.0),
    )  # fmt: skip
    return Predictor(build_net(2).eval(), config)


def test_spectrograms_and_audio_give_the_same_predictions(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = [
        write_wav(tmp_path / f"{i}.wav", beats(60 + 9 * i, seconds, seed=i)) for i, seconds in enumerate((3, 4, 1))
    ]
    rows = pd.DataFrame({"recording_id": [p.name for p in paths], "sha256": [sha256_file(p) for p in paths]})
    rows = rows.assign(group="g", label="a")
    shard = Shard(0, tuple(sorted((sha256_file(p), str(p)) for p in paths)))
    facts = measure_shard.fn(shard, MeasureConfig(), store)
    listed = [{"recording_id": p.name, "sha256": sha256_file(p), "uri": str(p)} for p in paths]
    recordings = store.write_table("recordings", table_from_rows(listed, RECORDINGS), RECORDINGS)
    index = store.read_frame(spectrogram_shard.fn(shard, SpectrogramConfig(), store).index, SPECTROGRAMS)
    rendered = rows.merge(index, on="sha256")
    config = RunConfig.model_validate({"source": {"name": "demo"}, "store": store.uri})
    config = config.model_copy(update={"measure": MeasureConfig(), "spectrogram": SpectrogramConfig()})
    other = config.model_copy(update={"spectrogram": SpectrogramConfig(mel_bands=24)})
    with progress.track("test") as advance:
        from_audio = pd.DataFrame(_predict(predictor(), rows, recordings, facts, other, store, advance))
        paths[0].unlink()  # the audio is not needed
        from_shards = pd.DataFrame(_predict(predictor(), rendered, recordings, facts, config, store, advance))
    assert from_audio["error"].isna().tolist() == [True, True, False]
    assert from_shards["error"].isna().tolist() == [True, True, False]
    assert "1.0 s" in from_shards["error"][2] or "short" in from_shards["error"][2]
    both = from_audio[:2], from_shards[:2]
    assert both[0]["prediction"].tolist() == both[1]["prediction"].tolist()
    assert np.allclose(*(frame[["p_a", "p_b"]].to_numpy(float) for frame in both), rtol=0, atol=1e-5)
    assert np.ptp(from_audio["p_a"][:2]) > 1e-4  # a mix-up would be noticed


def test_a_night_that_is_stopped_keeps_what_it_predicted(store: Store, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def predict(_predictor: Predictor, rows: pd.DataFrame, *_: object) -> list[dict]:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.extend(rows["sha256"])
        return [{"sha256": name, "prediction": "a", "p_a": 0.9, "p_b": 0.1} for name in rows["sha256"]]

    monkeypatch.setattr(champion_predictions, "KEPT_EVERY", 2)
    monkeypatch.setattr(champion_predictions, "_load", lambda *_: predictor())
    monkeypatch.setattr(champion_predictions, "_predict", predict)
    rows = pd.DataFrame({"sha256": list("uvwxy"), "group": "g", "label": "a"}).assign(recording_id=list("uvwxy"))
    version = SimpleNamespace(run_id="r", source="s", name="m", version=1)
    table = store.write_table("recordings", table_from_rows([], RECORDINGS), RECORDINGS)
    config = RunConfig.model_validate({"source": {"name": "demo"}, "store": store.uri})
    with pytest.raises(KeyboardInterrupt):
        champion_predictions.champion_predictions(version, rows, table, table, config, store)
    asked.clear()
    again = champion_predictions.champion_predictions(version, rows, table, table, config, store)
    assert asked == ["y"]
    assert again["recording_id"].tolist() == list("uvwxy")
