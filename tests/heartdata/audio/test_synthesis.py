"""Synthetic sounds for pretraining: an extra class, random devices, the same bytes for the same seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartdata.audio.synthesis import EXTRA_SOUND, RATE_HZ, Heart, simulate_device, synthesize, with_random_variation
from heartdata.sources import DemoSource

SMALL = DemoSource(varied=True, subjects_per_class=3, sites=1, duration_s=(2.0, 3.0), plant_faults=False)


def test_the_varied_set_has_a_fifth_class_and_is_reproducible(tmp_path: Path):
    one, two = (SMALL.listing(tmp_path / name).recordings for name in ("one", "two"))
    assert {row.label for row in one} == {"normal", "murmur", "extrasystole", "artifact", EXTRA_SOUND}
    assert len({row.subject for row in one}) == 15
    assert [Path(a.path).read_bytes() for a in one] == [Path(b.path).read_bytes() for b in two]


def test_a_misspelt_class_is_refused():
    with pytest.raises(ValueError, match="'murmer' is no class of synthetic recordings: use one of normal, murmur"):
        Heart.draw("murmer", np.random.default_rng(0))


def test_s3_follows_s2():
    rng = np.random.default_rng(0)
    heart = with_random_variation(Heart.draw(EXTRA_SOUND, rng), rng)
    while heart.extra[0] != "S3":
        heart = with_random_variation(heart, rng)
    sound = synthesize(heart, 6.0, 0, np.random.default_rng(1))
    plain = synthesize(replace(heart, extra=None), 6.0, 0, np.random.default_rng(1))

    def power(samples: np.ndarray) -> float:
        at = np.concatenate([np.arange(-80, 80) + int((t + heart.extra[1]) * RATE_HZ) for t in sound.s2_s[:-1]])
        return float(np.square(samples[at]).mean() / np.square(samples).mean())

    assert power(sound.samples) > 5 * power(plain.samples)


def test_random_devices_differ():
    sound = synthesize(Heart.draw("normal", np.random.default_rng(0)), 3.0, 0, np.random.default_rng(1)).samples
    one, two = (simulate_device(sound, True, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.shape == sound.shape
    assert np.abs(one).max() == np.float32(0.8)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.98
