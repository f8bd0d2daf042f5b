"""Networks and ensembles: their weights to a file and back, files of other content refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from heartdata.errors import ConfigError
from heartdata.training.network import (
    build_net,
    ensemble_weights,
    first_member,
    load_net,
    load_pretrained,
    read_weights,
    weights_bytes,
)


def test_weights_round_trip_and_other_files_are_refused(tmp_path: Path):
    net, windows = build_net(3), torch.randn(2, 1, 64, 64)
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(net))
    again = load_net(tmp_path / "w.safetensors", ["a", "b", "c"])
    assert torch.equal(net.eval()(windows), again(windows))
    torch.save(net.state_dict(), tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        read_weights(tmp_path / "pickle.safetensors")


@pytest.mark.parametrize("change", [{"conv1.weight": torch.zeros(64, 3, 7, 7)}, {"surplus": torch.zeros(1)}, None])
def test_pretrained_weights_of_another_network_are_refused(change: dict | None):
    weights = {} if change is None else {**build_net(5).state_dict(), **change}
    with pytest.raises(ConfigError, match="the weights these do not fit resnet34"):
        load_pretrained(build_net(2), weights, "these")


def test_an_ensemble_averages_probabilities(tmp_path: Path):
    nets, windows = [build_net(3).eval(), build_net(3).eval()], torch.randn(4, 1, 64, 64)
    with torch.inference_mode():
        nets[0].fc.bias += torch.tensor([2.0, 0, 0])
        mean = sum(net(windows).softmax(1) for net in nets) / 2
        (tmp_path / "w.safetensors").write_bytes(save(ensemble_weights([net.state_dict() for net in nets])))
        together = load_net(tmp_path / "w.safetensors", ["a", "b", "c"], members=2)
        assert torch.allclose(together(windows).softmax(1), mean, atol=1e-6)
        assert torch.allclose(together(windows).exp(), mean, atol=1e-6)
    first = first_member(read_weights(tmp_path / "w.safetensors"))  # what a training starts from
    assert first.keys() == nets[0].state_dict().keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in nets[0].state_dict().items())
    assert first_member(first) is first
