"""Several networks that answer together, through whole flows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import registry, tiny

import heartdata.scoring.calibration
import heartdata.training.train
from flows.pipeline import heartbeat
from heartdata.serving.predictor import Predictor, predict_probabilities
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store
from heartdata.training.recipe import TrainingConfig
from tasks import register
from tasks.results import TrainedModel
from tasks.train import training_history

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    """The seeds of the networks that are trained."""
    seeds: list[int] = []
    real = heartdata.training.train.train

    def noting(manifest, initial, config, *rest):
        seeds.append(config.seed)
        return real(manifest, initial, config, *rest)

    monkeypatch.setattr(heartdata.training.train, "train", noting)
    return seeds


def members(config, count: int):
    """``config`` with so many networks."""
    training = TrainingConfig.model_validate({**config.training.model_dump(), "members": count})
    return config.model_copy(update={"training": training})


def test_an_ensemble_is_trained_calibrated_registered_and_served(tmp_path: Path, monkeypatch, trainings: list[int]):
    fitted: list[np.ndarray] = []
    models: list[TrainedModel] = []
    real_fit, real_log = heartdata.scoring.calibration.fit_calibration, register._log_model

    def fitting(probabilities, *rest):
        fitted.append(probabilities)
        return real_fit(probabilities, *rest)

    def logging(model, store):
        models.append(model)
        return real_log(model, store)

    monkeypatch.setattr(heartdata.scoring.calibration, "fit_calibration", fitting)
    monkeypatch.setattr(register, "_log_model", logging)
    config = tiny(tmp_path, source__plant_faults=False)
    summary = heartbeat(members(config, 2))
    store, (model,) = Store(tmp_path), models
    assert len(trainings) == 2

    table = pd.read_parquet(tmp_path / "latest" / "manifest.parquet")
    each = [Predictor.load(store.local(m.weights.name), store.local(m.config.name)) for m in model.members]
    together = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
    for part in ("valid", "test"):
        rows = table[table["part"] == part][MANIFEST.names]
        means = np.mean([predict_probabilities(predictor, rows, store) for predictor in each], axis=0)
        assert np.allclose(predict_probabilities(together, rows, store), means, atol=1e-5)
        assert not np.allclose(predict_probabilities(each[0], rows, store), means, atol=1e-3)
        if part == "valid":  # what the answers are fitted to is what is served
            assert np.allclose(fitted[0], means, atol=1e-5)

    history = training_history(model, store)
    assert list(zip(history["member"], history["epoch"], history["step"], strict=True)) == [(0, 0, 0), (1, 0, 1)]
    logged = registry(tmp_path).get_metric_history(summary.run_id, "train_loss")
    assert sorted(metric.step for metric in logged) == [1, 2]

    heartbeat(members(config, 3))
    assert len(set(trainings)) == len(trainings) == 3  # the third alone
    alone = heartbeat(config)
    assert len(trainings) == 3  # the first of them
    assert alone.run_id != summary.run_id
