"""A predictor of random weights, and its application."""

from collections.abc import Callable, Iterator

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from flows.http.app import create_app
from flows.http.limits import Limits
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.training.network import build_net

CLASSES = ("murmur", "normal", "<img src=x onerror=alert(1)>")


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    torch.manual_seed(0)
    config = ModelConfig(classes=CLASSES, width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random")
    return Predictor(build_net(len(CLASSES)).eval().to(memory_format=torch.channels_last), config)


@pytest.fixture(scope="session")
def make_app(predictor: Predictor) -> Callable[..., FastAPI]:
    """The application for version 3 of that model; arguments as of `Limits`."""

    def make(loopback_only: bool = True, **limits: float) -> FastAPI:
        return create_app(predictor, "models:/heart/beat/3", Limits(**limits), loopback_only)

    return make


@pytest.fixture(scope="session")
def client(make_app) -> Iterator[TestClient]:
    with TestClient(make_app(), "http://localhost:8000", raise_server_exceptions=False) as opened:
        yield opened
