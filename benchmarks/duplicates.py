"""Near-duplicates: precision and recall on altered real recordings, pairs among untouched ones, recall by size, seconds.

python -m benchmarks.duplicates --data ../shared/data
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from scipy.cluster.hierarchy import DisjointSet
from scipy.signal import butter, sosfiltfilt

from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ, fingerprint
from heartdata.checks.near_duplicates import near_duplicates

THRESHOLD = 0.98  # validation.near_duplicate_similarity
SAMPLE = 300
Altered = tuple[np.ndarray, int]


def coded(form: str, subtype: str, rate_hz: int, **options: float) -> Callable[..., Altered]:
    """Through a codec at ``rate_hz`` (0: as it is) and back."""

    def change(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
        target, file = rate_hz or rate, io.BytesIO()
        y = resample(x, rate, target)
        soundfile.write(file, 0.95 * y / max(np.abs(y).max(), 1e-9), target, format=form, subtype=subtype, **options)
        audio = decode(file.getvalue())
        return audio.mono, audio.rate_hz

    return change


def noisy(ratio_db: float) -> Callable[..., Altered]:
    """White noise so far below the sound, within 1 kHz."""

    def change(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
        y = resample(x, rate, RATE_HZ)
        return y + (y.std() * 10 ** (-ratio_db / 20) * rng.standard_normal(len(y))).astype(np.float32), RATE_HZ

    return change


def trimmed(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
    """5-30 % cut off, anyhow parted between start and end."""
    cut = rng.uniform(0.05, 0.3)
    start = int(len(x) * rng.uniform(0, cut))
    return x[start : start + int(len(x) * (1 - cut))], rate


def shifted(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
    """Up to 20 % of other sound (soft noise) before it."""
    lead = 0.01 * np.abs(x).max() * rng.standard_normal(int(len(x) * rng.uniform(0.02, 0.2)))
    return np.concatenate([lead.astype(np.float32), x]), rate


def louder(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
    """-30 to +6 dB, 16 bits, clipped where it is too loud."""
    y = np.clip(x * 10 ** (rng.uniform(-30, 6) / 20), -1, 1)
    return (np.round(32767 * y) / 32768).astype(np.float32), rate


def at_rate(target_hz: int) -> Callable[..., Altered]:
    """At another rate."""
    return lambda x, rate, rng: (resample(x, rate, target_hz), target_hz)


def all_together(x: np.ndarray, rate: int, rng: np.random.Generator) -> Altered:
    """Cut, 20 dB of noise, other loudness, mp3 at 8 kHz."""
    for change in (trimmed, noisy(20), louder, CHANGES["mp3, 8 kHz"]):
        x, rate = change(x, rate, rng)
    return x, rate


CHANGES: dict[str, Callable[..., Altered]] = {
    "mp3, 44.1 kHz": coded("MP3", "MPEG_LAYER_III", 44100, compression_level=0.5),
    "mp3, 8 kHz": coded("MP3", "MPEG_LAYER_III", 8000, compression_level=0.9),
    "ogg, 8 kHz": coded("OGG", "VORBIS", 8000, compression_level=0.9),
    "8 bits": coded("WAV", "PCM_U8", 0),
    "rate 1 kHz": at_rate(1000),
    "rate 8 kHz": at_rate(8000),
    "loudness -30 to +6 dB": louder,
    "cut by 5-30 %": trimmed,
    "shifted by 2-20 %": shifted,
    "noise 20 dB below": noisy(20),
    "noise 10 dB below": noisy(10),
    "noise 5 dB below": noisy(5),
    "cut, noise 20 dB, loudness, mp3": all_together,
}


def say(text: str = "") -> None:
    """A line of the report."""
    sys.stdout.write(text + "\n")


def printed(sounds: dict[str, np.ndarray]) -> pd.DataFrame:
    """Fingerprints of sounds at RATE_HZ, under their names."""
    return pd.DataFrame({"sha256": list(sounds), "fingerprint": [fingerprint(s) for s in sounds.values()]})


def waveform_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Highest correlation of two sounds' waveforms (25-150 Hz) at any lag with 40 % of the shorter or more in common."""
    sos = butter(3, (25, 150), "bandpass", fs=RATE_HZ, output="sos")
    a, b = (sosfiltfilt(sos, s.astype(np.float64)) for s in (a, b))
    size = 1 << (len(a) + len(b)).bit_length()

    def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(y, size).conj(), size)

    ones_a, ones_b = np.ones(len(a)), np.ones(len(b))
    power = np.maximum(cross(a * a, ones_b), 0) * np.maximum(cross(ones_a, b * b), 0)
    enough = cross(ones_a, ones_b) >= 0.4 * min(len(a), len(b))
    return float(np.abs(cross(a, b)[enough] / np.sqrt(power[enough] + 1e-12)).max())


def untouched(sounds: dict[str, np.ndarray]) -> dict[str, str]:
    """Print the pairs among the real recordings; each recording in one to its cluster's first."""
    pairs = near_duplicates(printed(sounds), THRESHOLD)
    clusters = DisjointSet()
    say(f"{len(pairs)} pairs among {len(sounds)} untouched recordings:\n")
    say("| pair | envelopes | codes | waveforms 25-150 Hz |\n|---|---|---|---|")
    for a, b, similarity, agreement in pairs.itertuples(index=False):
        correlation = waveform_correlation(sounds[a], sounds[b])
        say(f"| {a} = {b} | {similarity:.3f} | {agreement:.3f} | {correlation:.3f} |")
        clusters.add(a)
        clusters.add(b)
        clusters.merge(a, b)
    sizes = pd.Series([len(cluster) for cluster in clusters.subsets()], dtype=int)
    say(f"\nClusters by size: {sizes.value_counts().sort_index().to_dict()}\n")
    return {name: min(cluster) for cluster in clusters.subsets() for name in cluster}


def alter(
    change: Callable[..., Altered], files: dict[str, tuple[np.ndarray, int]], chosen: list[str]
) -> dict[str, np.ndarray]:
    """Copies of the chosen recordings, changed, at RATE_HZ."""
    copies = {}
    for number, name in enumerate(chosen):
        y, rate = change(*files[name], np.random.default_rng(number))
        copies[f"{name} altered"] = resample(np.asarray(y, np.float32), rate, RATE_HZ)
    return copies


def choose(sounds: dict[str, np.ndarray]) -> list[str]:
    """SAMPLE of the recordings that are long and loud enough."""
    long_enough = [n for n, s in sounds.items() if len(s) >= RATE_HZ and s.std() > 1e-4]
    return [str(n) for n in np.random.default_rng(0).choice(long_enough, SAMPLE, replace=False)]


def recall(pairs: pd.DataFrame) -> int:
    """How many altered copies are paired with their originals."""
    both = zip(pairs["sha256_a"], pairs["sha256_b"], strict=True)
    return sum(a != b and a.removesuffix(" altered") == b.removesuffix(" altered") for a, b in both)


def altered(
    files: dict[str, tuple[np.ndarray, int]], originals: pd.DataFrame, chosen: list[str], root: dict[str, str]
) -> None:
    """Print recall and precision for each kind of change."""
    say("| change | copies | found | recall | other pairs | precision |\n|---|---|---|---|---|---|")
    for kind, change in CHANGES.items():
        copies = alter(change, files, chosen)
        pairs = near_duplicates(pd.concat([originals, printed(copies)]), THRESHOLD)
        pairs = pairs[pairs["sha256_a"].isin(copies) | pairs["sha256_b"].isin(copies)]
        found = recall(pairs)
        names = [tuple(s.removesuffix(" altered") for s in p) for p in zip(pairs.sha256_a, pairs.sha256_b, strict=True)]
        wrong = sum(root.get(a, a) != root.get(b, b) for a, b in names)
        say(f"| {kind} | {SAMPLE} | {found} | {found / SAMPLE:.3f} | {wrong} | {found / max(found + wrong, 1):.3f} |")


def made_prints(prints: pd.DataFrame, number: int) -> np.ndarray:
    """``number`` fingerprints of 20 s, shape (number, 2, 1000): codes from a Markov chain of the real ones."""
    codes = [np.frombuffer(p, np.uint8)[: len(p) // 2] for p in prints["fingerprint"]]
    counts = np.zeros((256, 256))
    for c in codes:
        np.add.at(counts, (c[:-1], c[1:]), 1)
    chances = np.cumsum((counts + 1e-3) / (counts + 1e-3).sum(axis=1, keepdims=True), axis=1)
    rng = np.random.default_rng(0)
    made = np.zeros((number, 2, 1000), np.uint8)
    made[:, 0, 0] = rng.integers(1, 256, number)
    made[:, 1] = rng.integers(0, 256, (number, 1000), dtype=np.uint8)
    for t in range(1, 1000):
        rows, drawn = chances[made[:, 0, t - 1]], rng.random(number)
        made[:, 0, t] = np.minimum((rows < drawn[:, None]).sum(axis=1), 255)
    return made


def named(made: np.ndarray) -> pd.DataFrame:
    """A table of fingerprints under nine-digit names."""
    return pd.DataFrame({"sha256": [f"{i:09d}" for i in range(len(made))], "fingerprint": [m.tobytes() for m in made]})


def by_size(files: dict[str, tuple[np.ndarray, int]], prints: pd.DataFrame, chosen: list[str]) -> None:
    """Print the recall of altered real recordings among more and more made fingerprints."""
    kinds = ("noise 20 dB below", "noise 10 dB below", "cut, noise 20 dB, loudness, mp3")
    copies = {kind: printed(alter(CHANGES[kind], files, chosen)) for kind in kinds}
    say(f"\n| recordings | seconds | untouched pairs | {' | '.join(kinds)} |\n|---|---|---|---|---|---|")
    for number in (0, 1_500, 3_000, 10_000):
        others = pd.concat([prints, named(made_prints(prints, number))], ignore_index=True)
        start = time.perf_counter()
        pairs = near_duplicates(others, THRESHOLD)
        seconds = time.perf_counter() - start
        real = int((~pairs["sha256_a"].str.isdigit() & ~pairs["sha256_b"].str.isdigit()).sum())
        found = [recall(near_duplicates(pd.concat([others, copies[kind]]), THRESHOLD)) for kind in kinds]
        shown = " | ".join(f"{f / len(chosen):.3f}" for f in found)
        say(f"| {len(others):,} | {seconds:.1f} | {real} | {shown} |")


def at_scale(prints: pd.DataFrame) -> None:
    """Seconds for made fingerprints; 1 % are copies with 8 % of the bits wrong."""
    say("\n| fingerprints | seconds | copies found | of | other pairs |\n|---|---|---|---|---|")
    for number in (1_000, 10_000, 30_000):
        made, rng = made_prints(prints, number), np.random.default_rng(1)
        planted = number // 100
        wrong = np.packbits(rng.random((planted, 1000, 8)) < 0.08, axis=2)[:, :, 0]
        made[:planted] = made[planted : 2 * planted]
        made[:planted, 0] = np.roll(made[:planted, 0] ^ wrong, 100, axis=1)
        made[:planted, 1] = np.roll(made[:planted, 1], 100, axis=1)
        table = named(made)
        start = time.perf_counter()
        pairs = near_duplicates(table, THRESHOLD)
        seconds = time.perf_counter() - start
        found = sum(int(b) - int(a) == planted for a, b in zip(pairs["sha256_a"], pairs["sha256_b"], strict=True))
        say(f"| {number:,} | {seconds:.1f} | {found} | {planted} | {len(pairs) - found} |")


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    files = {}
    for path in sorted(p for p in data.glob("*/*/*.wav") if p.parts[-3] in ("pascal", "cinc2016")):
        audio = decode(path.read_bytes())
        files["/".join(path.parts[-2:])] = (audio.mono, audio.rate_hz)
    sounds = {name: resample(x, rate, RATE_HZ) for name, (x, rate) in files.items()}
    start = time.perf_counter()
    prints = printed(sounds)
    near_duplicates(prints, THRESHOLD)
    say(f"Fingerprints of {len(sounds)} recordings, and their pairs: {time.perf_counter() - start:.1f} s\n")
    chosen = choose(sounds)
    altered(files, prints, chosen, untouched(sounds))
    by_size(files, prints, chosen)
    at_scale(prints)


if __name__ == "__main__":
    main()
