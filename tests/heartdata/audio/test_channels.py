"""Which channel of a recording is used: the heart beside an ECG, hum, noise or silence; the mean of equal ones."""

from pathlib import Path

import numpy as np
import pytest
from helpers import beats, tone, write_wav
from pydantic import ValidationError

from heartdata.audio.channels import choose
from heartdata.audio.decode import decode
from heartdata.audio.measurements import MeasureConfig, measure_audio, measure_file
from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize
from heartdata.errors import BadAudio

DURATION_S = 6.0


def heart(seed: int = 0) -> np.ndarray:
    """A faint synthetic heart sound with a murmur for odd seeds."""
    rng = np.random.default_rng(seed)
    sound = synthesize(Heart.draw(("normal", "murmur")[seed % 2], rng), DURATION_S, seed, rng).samples
    return 0.1 * sound / np.abs(sound).max()


def ecg(seed: int = 0, noise: float = 0.01, hum: float = 0.0) -> np.ndarray:
    """P, Q, R, S and T waves as Gaussians, five times as loud as `heart`, over slow drift."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(DURATION_S * RATE_HZ)) / RATE_HZ
    wave = 0.1 * np.sin(2 * np.pi * 0.25 * time_s) + hum * np.sin(2 * np.pi * 50 * time_s)
    for beat_s in np.arange(rng.uniform(0, 0.8), DURATION_S, 60 / rng.uniform(55, 100)):
        for delay_s, width_s, size in ((-0.17, 0.025, 0.12), (-0.025, 0.01, -0.12), (0, 0.011, 1), (0.028, 0.01, -0.25), (0.26, 0.05, 0.3)):  # fmt: skip
            wave += size * np.exp(-0.5 * ((time_s - beat_s - delay_s) / width_s) ** 2)
    return 0.5 * (wave + noise * rng.normal(size=len(time_s)))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(DURATION_S * RATE_HZ))


OTHERS = {
    "ecg": ecg(),
    "noisy ecg": ecg(1, noise=0.05),
    "ecg with hum": ecg(2, hum=0.1),
    "noise": noise(),
    "hum": tone(50, DURATION_S, RATE_HZ) + 0.05 * noise(1),
    "breath": tone(0.3, DURATION_S, RATE_HZ) + 0.05 * noise(2),
    "silence": np.zeros(round(DURATION_S * RATE_HZ)),
}


def recording(path: Path, *channels: np.ndarray):
    return decode(write_wav(path, np.stack(channels, axis=1), RATE_HZ, "FLOAT").read_bytes())


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_channel_with_the_heart_is_chosen_wherever_it_is(tmp_path: Path, other: str, seed: int):
    for number, channels in enumerate(((heart(seed), OTHERS[other]), (OTHERS[other], heart(seed))), 1):
        sound = choose(recording(tmp_path / "a.wav", *channels), "most_heart_like")
        assert sound.channel == number
        assert np.array_equal(sound.mono, heart(seed).astype(np.float32))
        assert abs(sound.agreement) < 0.5


@pytest.mark.parametrize(("second", "channel"), [(1.0, 0), (0.3, 0), (-1.0, 1)])
def test_copies_of_one_microphone_are_averaged_unless_they_cancel(tmp_path: Path, second: float, channel: int):
    audio = recording(tmp_path / "a.wav", heart(), second * heart() + 0.01 * noise())
    sound = choose(audio, "most_heart_like")
    assert sound.channel == channel
    assert np.array_equal(sound.mono, audio.samples[:, 0] if channel else audio.mono)


@pytest.mark.parametrize(("setting", "channel"), [("first", 1), (1, 1), (2, 2), ("mix", 0)])
def test_the_setting_decides_for_facts_and_sound(tmp_path: Path, setting: str | int, channel: int):
    audio = recording(tmp_path / "a.wav", heart(), ecg())
    facts = measure_audio(audio, MeasureConfig(channel=setting))
    assert (facts["channel"], choose(audio, setting).channel) == (channel, channel)
    assert facts["peak"] == pytest.approx(np.abs(heart()).max() if channel == 1 else np.abs(ecg()).max(), rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "channel"),
    [(" MIX ", "mix"), ("2", 2), (0, None), (-1, None), (1.5, None), ("left", None), (True, None)],
)
def test_a_setting_that_names_no_channel_is_refused_in_words(setting: object, channel: str | int | None):
    if channel is not None:
        assert MeasureConfig.model_validate({"channel": setting}).channel == channel
        return
    with pytest.raises(ValidationError) as refused:
        MeasureConfig.model_validate({"channel": setting})
    assert [error["loc"] for error in refused.value.errors()] == [("channel",)]
    assert "a channel's number, from 1, or one of mix, first, most_heart_like" in str(refused.value)


def test_a_channel_that_is_absent_is_refused_in_a_row(tmp_path: Path):
    path = write_wav(tmp_path / "a.wav", beats())
    with pytest.raises(BadAudio, match="has 1 channel, but measure.channel=2 was set"):
        choose(decode(path.read_bytes()), 2)
    assert "measure.channel=most_heart_like" in str(measure_file(str(path), None, MeasureConfig(channel=2))["error"])
