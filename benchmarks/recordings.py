"""Recordings for benchmarks that need many: noise, or those of PASCAL set B where they are."""

from pathlib import Path

import numpy as np
import soundfile

from benchmarks.command import say


def noise_recordings(folder: Path, numbers: range) -> list[Path]:
    """5 s of noise at 4 kHz, 16 bit, one file each; in folders of two classes as the table source expects them."""
    paths = [folder / ("normal", "murmur")[number % 2] / f"{number:06d}.wav" for number in numbers]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for number, path in zip(numbers, paths, strict=True):
        noise = np.random.default_rng([2, number]).normal(0, 0.1, 20_000).astype(np.float32)
        soundfile.write(path, noise, 4000, subtype="PCM_16")
        if number % 10_000 == 9_999:
            say(f"{number + 1} recordings written")
    return paths


def pascal_b(data: Path, count: int, scratch: Path) -> tuple[str, list[Path]]:
    """What they are and ``count`` recordings of PASCAL set B at most; noise where they are not in ``data``."""
    files = sorted((data / "pascal" / "set_b").glob("*.wav"))[:count]
    if files:
        return f"{len(files)} recordings of PASCAL set B", files
    return f"{count} recordings of 5 s of noise", noise_recordings(scratch / "noise", range(count))
