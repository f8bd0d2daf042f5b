"""The demo's recordings: the same for the same seed, and with the beats of a heart."""

import errno
from pathlib import Path

import numpy as np
import pytest

from heartdata.audio.synthesis import Heart, beat_times, synthesize
from heartdata.dataset.inventory import take_inventory
from heartdata.sources import DemoSource, MixSource


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path):
    def hashes(seed: int, folder: str) -> dict[str, str]:
        source = DemoSource(seed=seed, subjects_per_class=3, sites=2, duration_s=(2.0, 3.0))
        table, _ = take_inventory(source, tmp_path / folder)
        return dict(zip(table["recording_id"].to_pylist(), table["sha256"].to_pylist(), strict=True))

    first = hashes(0, "one")
    assert first == hashes(0, "two") != hashes(1, "three")
    assert len(first) == 4 * 3 * 2 + 8


def test_many_subjects_are_made_where_no_process_can_start(tmp_path: Path, monkeypatch):
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", read_only)
    monkeypatch.setattr("heartdata.sources.demo.MANY_SUBJECTS", 1)
    source = DemoSource(subjects_per_class=3, sites=1, duration_s=(2.0, 3.0), plant_faults=False)
    assert len(source.listing(tmp_path).recordings) == 3 * 4


def test_beats_have_the_heart_rate():
    rng = np.random.default_rng(0)
    heart = Heart.draw("normal", rng)
    s1, s2 = beat_times(heart, 30.0, rng)
    assert 60 / np.diff(s1).mean() == pytest.approx(heart.rate_bpm, rel=0.05)
    assert ((s2 - s1) > 0.19).all()
    sound = synthesize(heart, 6.0, 0, rng)
    assert sound.samples.shape == (24000,)
    assert np.abs(sound.samples).max() == pytest.approx(0.8)


def test_extrasystole_is_early_and_followed_by_a_pause():
    rng = np.random.default_rng(1)
    heart = Heart.draw("extrasystole", rng)
    intervals = np.diff(beat_times(heart, 60.0, rng)[0]) * heart.rate_bpm / 60
    early = np.flatnonzero(intervals[:-1] < 0.8)
    assert len(early) > 3
    assert (intervals[early + 1] > 1.2).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_progress_is_shown_while_recordings_are_made(tmp_path: Path, mixed: bool):
    demo = DemoSource(subjects_per_class=3, sites=1, duration_s=(1.5, 1.6), plant_faults=False)
    calls: list[tuple[int, int]] = []
    source = MixSource(sources=(demo,)) if mixed else demo
    take_inventory(source, tmp_path, lambda done, total: calls.append((done, total)))
    made, hashed = calls[:12], calls[12:]
    assert made == [(done, 12) for done in range(1, 13)]
    calls.clear()
    take_inventory(source, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == hashed  # nothing is made again
