"""Where training starts from: which files of weights are accepted, and that nothing in them is executed."""

import errno
import hashlib
import io
import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from prefect.logging import disable_run_logger
from safetensors.torch import save_file
from untrained import registered, untrained

from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError
from heartdata.storage.store import Store
from heartdata.training import network
from heartdata.training.network import read_weights
from tasks.results import InitialWeights
from tasks.train import initial_weights


def initial(init: str, store: Store) -> InitialWeights:
    return initial_weights.fn(init, RegistryConfig(), store)


def test_random_weights_are_none_and_a_missing_file_is_refused(store: Store, tmp_path: Path):
    assert initial("random", store).weights is None
    with pytest.raises(ConfigError, match="does not exist"):
        initial(str(tmp_path / "absent.safetensors"), store)


def test_weights_of_unknown_provenance_are_used_with_a_warning(store: Store, tmp_path: Path):
    save_file({"conv1.weight": torch.ones(1)}, tmp_path / "x.safetensors")
    assert "x.safetensors does not say what it was trained on" in initial(str(tmp_path / "x.safetensors"), store).note


def test_an_alias_is_recorded_as_the_version_that_it_names(registry_store: Store):
    version = registered(registry_store, untrained(registry_store))
    kinds = [initial(init, registry_store).kind for init in ("models:/heartbeat@challenger", version)]
    assert kinds == [version, version]


@pytest.mark.parametrize("init", ["models:/heartbeat", "models:/heartbeat/99", "models:/heartbeat@absent"])
def test_a_model_that_is_not_registered_is_named(init: str, registry_store: Store):
    registered(registry_store, untrained(registry_store))
    with pytest.raises(ConfigError, match=f"{init!r} is not in the registry"):
        initial(init, registry_store)


def cached(kept: bytes, published: bytes, folder: Path, monkeypatch) -> Path:
    """Put ``kept`` into torch's cache as the ImageNet weights, which torchvision publishes as ``published``."""
    sha256 = hashlib.sha256(published).hexdigest()
    name = f"resnet34-{sha256[:8]}.pth"
    monkeypatch.setattr(network, "IMAGENET_SHA256", sha256)
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", (folder / name).as_uri())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    path = folder / "checkpoints" / name
    path.parent.mkdir()
    path.write_bytes(kept)
    return path


def pickled(weights: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_auto_takes_imagenet_weights_where_they_are_available(store: Store, tmp_path: Path, monkeypatch):
    content = pickled({"conv1.weight": torch.ones(64, 3, 7, 7), "fc.weight": torch.ones(1000, 512)})
    cached(content, content, tmp_path, monkeypatch)
    start = initial("auto", store)
    assert (start.kind, start.note) == ("imagenet", "")
    weights = read_weights(store.local(start.weights.name))
    assert list(weights) == ["conv1.weight"]
    assert torch.equal(weights["conv1.weight"], torch.full((64, 1, 7, 7), 3.0))


@pytest.mark.parametrize("downloaded", [False, True])
def test_other_weights_under_the_name_of_imagenet_are_refused(
    store: Store, tmp_path: Path, monkeypatch, downloaded: bool
):
    other = pickled({"conv1.weight": Touch(tmp_path / "ran")})
    path = cached(other, pickled({}), tmp_path, monkeypatch)
    if downloaded:
        path.rename(tmp_path / path.name)  # the publisher's place
    message = "invalid hash value" if downloaded else f"{path} is not the file that torchvision publishes: delete it"
    with pytest.raises(ConfigError, match=message):
        initial("imagenet", store)
    assert path.exists() is not downloaded
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no network"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no network"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), r"\[Errno 111\] Connection refused"),
    ],
)
def test_why_and_from_where_weights_could_not_be_downloaded(
    store: Store, tmp_path: Path, monkeypatch, error: OSError, reason: str
):
    def fail(*_: object, **__: object) -> None:
        raise URLError(error)

    path = cached(b"", b"", tmp_path, monkeypatch)
    path.unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    url = torchvision.models.ResNet34_Weights.IMAGENET1K_V1.url
    with pytest.raises(ConfigError, match=rf"cannot be downloaded \({reason}\): save {url} as {path}, or set"):
        initial("imagenet", store)


def test_the_whole_hash_counts(store: Store, tmp_path: Path, monkeypatch):
    content = pickled({"conv1.weight": torch.ones(64, 3, 7, 7)})
    path = cached(content, content, tmp_path, monkeypatch)
    initial("imagenet", store)
    monkeypatch.setattr(network, "IMAGENET_SHA256", network.IMAGENET_SHA256[:8] + "0" * 56)
    with pytest.raises(ConfigError, match=f"{path} is not the file that torchvision publishes"):
        initial("imagenet", store)


def test_the_hash_is_that_of_the_file_which_torchvision_names():
    url = torchvision.models.ResNet34_Weights.IMAGENET1K_V1.url
    assert f"-{network.IMAGENET_SHA256[:8]}.pth" in url
    assert len(network.IMAGENET_SHA256) == 64


def test_code_in_a_file_of_weights_is_not_run(store: Store, tmp_path: Path, monkeypatch):
    content = pickled({"conv1.weight": Touch(tmp_path / "ran")})
    path = cached(content, content, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=f"{path} holds more than weights: delete it"):
        initial("imagenet", store)
    assert not (tmp_path / "ran").exists()


def test_auto_says_why_it_starts_from_random_weights(store: Store, tmp_path: Path, monkeypatch):
    def offline(*args, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with disable_run_logger():
        start = initial("auto", store)
    assert (start.kind, start.weights) == ("random", None)
    assert "random weights" in start.note
    assert "no route to host" in start.note
    assert "resnet34-b627a593.pth" in start.note  # where to put it
    assert "run `heartbeat pretrain` and set training.init=models:/heartbeat-backbone@champion" in start.note
    with pytest.raises(ConfigError, match="no route to host"):
        initial("imagenet", store)
