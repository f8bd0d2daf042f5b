"""The run's configuration: sentences for what is wrong, presets however it is made."""

from pathlib import Path

import pytest

from heartdata.config import RunConfig, build_config, parse_change
from heartdata.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"training.epoch": 3}, "unknown configuration key 'training.epoch'"),
     ({"nonsense": 1}, "unknown configuration key 'nonsense'"),
     ({"training.epochs": 0}, "training.epochs = 0: Input should be greater than or equal to 1"),
     ({"split.test_fraction": 0.9}, "split.test_fraction = 0.9"),
     ({"validation.min_peak": "loud"}, "validation.min_peak = 'loud'"),
     ({"source.seed": "x"}, "source.seed = 'x'"),
     ({"spectrogram.low_hz": 900}, "low_hz < high_hz <= rate_hz / 2 must hold")],
)  # fmt: skip
def test_what_is_wrong_is_named(changes: dict, said: str):
    with pytest.raises(ConfigError) as error:
        build_config("demo", changes=changes)
    assert said in str(error.value)


def test_every_fault_is_told_at_once():
    with pytest.raises(ConfigError, match="training.epochs.*training.batch"):
        build_config("demo", changes={"training.epochs": 0, "training.batch": 0})


def test_preset_is_applied_however_the_object_is_made():
    by_hand = RunConfig.model_validate({"source": {"name": "pascal", "data": "/x"}})
    assert by_hand.split.collections == build_config("pascal", "/x").split.collections == ("set_b",)
    assert RunConfig().training.init == "random"
    assert build_config("table", "/x").training.init == "auto"


def test_order_is_preset_then_file_then_change(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("source: {name: pascal, data: /x}\nsplit: {collections: [set_a], seed: 5}\ntraining: {epochs: 7}\n")
    config = build_config(file=file, changes={"training.epochs": 8})
    assert (config.source.name, config.split.collections, config.split.seed) == ("pascal", ("set_a",), 5)
    assert config.training.epochs == 8


def test_whole_configuration_survives_json():
    config = build_config("table", "/x", changes={"source.columns.label": "Diagnosis"})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "value"), [("a.b=3", 3), ("a.b=[x, y]", ["x", "y"]), ("a.b=", ""), ("a.b=null", None), ("a.b=x=y", "x=y")]
)
def test_values_are_typed(text: str, value: object):
    assert parse_change(text) == ("a.b", value)


def test_what_is_no_change_is_told():
    with pytest.raises(ConfigError, match="not of the form key=value"):
        parse_change("training.epochs")
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_change("a=[1")
