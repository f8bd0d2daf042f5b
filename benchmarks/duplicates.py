"""Near-duplicates: recall and precision on altered real recordings and on others of one subject, pairs among untouched
ones, time and memory by size.

python -m benchmarks.duplicates --data ../shared/data
"""

import argparse
import io
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from scipy.cluster.hierarchy import DisjointSet
from scipy.signal import butter, sosfiltfilt

from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import HOP, RATE_HZ, fingerprint
from heartdata.checks.near_duplicates import Search, near_duplicates
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.waveforms import confirm

SAMPLE = 300
FRAMES = 1000  # of a synthetic fingerprint: 20 s
Sound = tuple[np.ndarray, int]  # samples, and their rate in Hz
Change = Callable[[np.ndarray, int, np.random.Generator], Sound]


def encode(
    x: np.ndarray, rate: int, rng: np.random.Generator, *, form: str, subtype: str, to_hz: int = 0, **options
) -> Sound:
    """Through a codec, at ``to_hz`` if that is not 0."""
    to_hz, file = to_hz or rate, io.BytesIO()
    y = resample(x, rate, to_hz)
    soundfile.write(file, 0.95 * y / max(np.abs(y).max(), 1e-9), to_hz, format=form, subtype=subtype, **options)
    audio = decode(file.getvalue())
    return audio.mono, audio.rate_hz


def add_noise(x: np.ndarray, rate: int, rng: np.random.Generator, *, ratio_db: float) -> Sound:
    """White noise so far below the sound, within 1 kHz."""
    y = resample(x, rate, RATE_HZ)
    return y + (y.std() * 10 ** (-ratio_db / 20) * rng.standard_normal(len(y))).astype(np.float32), RATE_HZ


def cut(x: np.ndarray, rate: int, rng: np.random.Generator) -> Sound:
    """Without 5-30 %, at a random place."""
    share = rng.uniform(0.05, 0.3)
    start = int(len(x) * rng.uniform(0, share))
    return x[start : start + int(len(x) * (1 - share))], rate


def shift(x: np.ndarray, rate: int, rng: np.random.Generator) -> Sound:
    """After soft noise of up to 20 % of its length."""
    lead = 0.01 * np.abs(x).max() * rng.standard_normal(int(len(x) * rng.uniform(0.02, 0.2)))
    return np.concatenate([lead.astype(np.float32), x]), rate


def scale(x: np.ndarray, rate: int, rng: np.random.Generator) -> Sound:
    """-30 to +6 dB, clipped and rounded to 16 bits."""
    y = np.clip(x * 10 ** (rng.uniform(-30, 6) / 20), -1, 1)
    return (np.round(32767 * y) / 32768).astype(np.float32), rate


def to_rate(x: np.ndarray, rate: int, rng: np.random.Generator, *, to_hz: int) -> Sound:
    return resample(x, rate, to_hz), to_hz


def all_together(x: np.ndarray, rate: int, rng: np.random.Generator) -> Sound:
    for change in (cut, CHANGES["noise 20 dB below"], scale, CHANGES["mp3, 8 kHz"]):
        x, rate = change(x, rate, rng)
    return x, rate


encode_mp3 = partial(encode, form="MP3", subtype="MPEG_LAYER_III")
CHANGES: dict[str, Change] = {
    "mp3, 44.1 kHz": partial(encode_mp3, to_hz=44100, compression_level=0.5),
    "mp3, 8 kHz": partial(encode_mp3, to_hz=8000, compression_level=0.9),
    "ogg, 8 kHz": partial(encode, form="OGG", subtype="VORBIS", to_hz=8000, compression_level=0.9),
    "8 bits": partial(encode, form="WAV", subtype="PCM_U8"),
    "rate 1 kHz": partial(to_rate, to_hz=1000),
    "rate 8 kHz": partial(to_rate, to_hz=8000),
    "loudness -30 to +6 dB": scale,
    "cut by 5-30 %": cut,
    "shifted by 2-20 %": shift,
    "noise 20 dB below": partial(add_noise, ratio_db=20),
    "noise 10 dB below": partial(add_noise, ratio_db=10),
    "noise 5 dB below": partial(add_noise, ratio_db=5),
    "cut, noise 20 dB, loudness, mp3": all_together,
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def table_head(*columns: str) -> None:
    say(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def find(prints: pd.DataFrame) -> pd.DataFrame:
    return near_duplicates(prints, ValidationConfig().near_duplicate_similarity).pairs


def timed(function: Callable[[], Search]) -> tuple[Search, float]:
    """What it returns, and the seconds it took."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def prints_of(sounds: dict[str, np.ndarray]) -> pd.DataFrame:
    """Fingerprints of sounds at RATE_HZ, under their names."""
    return pd.DataFrame({"sha256": list(sounds), "fingerprint": [fingerprint(s) for s in sounds.values()]})


def best_alignment(a: np.ndarray, b: np.ndarray, common: float = 0.4) -> tuple[float, int]:
    """Highest correlation of two waveforms (25-150 Hz) at any lag that leaves ``common`` of the shorter in common.

    Also the sample of ``a`` where the first of ``b`` is then.
    """
    sos = butter(3, (25, 150), "bandpass", fs=RATE_HZ, output="sos")
    a, b = (sosfiltfilt(sos, s.astype(np.float64)) for s in (a, b))
    size = 1 << (len(a) + len(b)).bit_length()

    def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(y, size).conj(), size)

    ones_a, ones_b = np.ones(len(a)), np.ones(len(b))
    power = np.maximum(cross(a * a, ones_b), 0) * np.maximum(cross(ones_a, b * b), 0)
    enough = cross(ones_a, ones_b) >= common * min(len(a), len(b))
    correlation = np.where(enough, np.abs(cross(a, b) / np.sqrt(power + 1e-12)), 0)
    lag = int(correlation.argmax())
    return float(correlation[lag]), lag if lag < len(a) else lag - size


def aligned(pairs: list[tuple[str, str]], sounds: dict[str, np.ndarray]) -> pd.DataFrame:
    """Pairs of different recordings with the columns of `heartdata.checks.waveforms.confirm`, where they agree most."""
    offsets = [round(best_alignment(sounds[a], sounds[b])[1] / HOP) for a, b in pairs]
    table = pd.DataFrame(pairs, columns=["sha256_a", "sha256_b"])
    return confirm(table.assign(offset_frames=offsets), sounds.get)


def report_untouched(sounds: dict[str, np.ndarray], prints: pd.DataFrame) -> dict[str, str]:
    """The pairs among the real recordings; returns each recording in one with the first of its cluster."""
    pairs = find(prints)
    clusters = DisjointSet([*pairs["sha256_a"], *pairs["sha256_b"]])
    say(f"{len(pairs)} pairs among {len(sounds)} untouched recordings:")
    table_head("pair", "envelopes", "codes", "waveforms 25-150 Hz", "confirmed")
    pairs = confirm(pairs, sounds.get)
    for pair in pairs.itertuples():
        a, b = pair.sha256_a, pair.sha256_b
        correlation = best_alignment(sounds[a], sounds[b])[0]
        known = "yes" if pair.confirmed else "no"
        say(f"| {a} = {b} | {pair.similarity:.3f} | {pair.agreement:.3f} | {correlation:.3f} | {known} |")
        clusters.merge(a, b)
    sizes = pd.Series([len(cluster) for cluster in clusters.subsets()], dtype=int)
    say(
        f"\n{pairs['confirmed'].sum()} confirmed, {pairs['alike'].sum()} alike. Clusters by size: {sizes.value_counts().sort_index().to_dict()}"
    )
    return {name: min(cluster) for cluster in clusters.subsets() for name in cluster}


def alter(change: Change, files: dict[str, Sound], names: list[str]) -> dict[str, np.ndarray]:
    """Changed copies of recordings, at RATE_HZ."""
    copies = {}
    for number, name in enumerate(names):
        y, rate = change(*files[name], np.random.default_rng(number))
        copies[f"{name} altered"] = resample(np.asarray(y, np.float32), rate, RATE_HZ)
    return copies


def original_names(pairs: pd.DataFrame) -> Iterable[tuple[str, str]]:
    columns = (pairs[column].str.removesuffix(" altered") for column in ("sha256_a", "sha256_b"))
    return zip(*columns, strict=True)


def found_copies(pairs: pd.DataFrame) -> int:
    """How many altered copies are paired with their originals."""
    return sum(a == b for a, b in original_names(pairs))


def report_altered(
    files: dict[str, Sound], sounds: dict[str, np.ndarray], prints: pd.DataFrame, names: list[str], root: dict[str, str]
) -> int:
    """Returns how many altered copies were found and confirmed."""
    table_head("change", "copies", "found", "recall", "other pairs", "precision", "confirmed", "other pairs confirmed")
    every = 0
    for kind, change in CHANGES.items():
        copies = alter(change, files, names)
        pairs = find(pd.concat([prints, prints_of(copies)]))
        pairs = pairs[pairs["sha256_a"].isin(copies) | pairs["sha256_b"].isin(copies)]
        sure = confirm(pairs, (sounds | copies).get)
        sure = sure[sure["confirmed"]]
        (found, wrong), (kept, still_wrong) = (
            (found_copies(p), sum(root.get(a, a) != root.get(b, b) for a, b in original_names(p)))
            for p in (pairs, sure)
        )
        every += kept
        precision = found / max(found + wrong, 1)
        say(
            f"| {kind} | {SAMPLE} | {found} | {found / SAMPLE:.3f} | {wrong} | {precision:.3f} | {kept} | {still_wrong} |"
        )
    return every


def report_negatives(data: Path, sounds: dict[str, np.ndarray], copies: int) -> None:
    """Different recordings of one subject and device, and the halves of one recording, aligned where they agree most."""
    circor = {}
    for path in sorted(data.glob("circor2022/training_data/*.wav")):
        audio = decode(path.read_bytes())
        circor[path.stem] = resample(audio.mono, audio.rate_hz, RATE_HZ)
    pascal = {name: sound for name, sound in sounds.items() if name.startswith("set_b/")}
    halves = {}
    for name, sound in (sounds | circor).items():
        if len(sound) >= 16 * RATE_HZ:
            half = len(sound) // 2
            halves |= {f"{name} 1": sound[:half], f"{name} 2": sound[half:]}
    table_head("different recordings", "pairs", "found", "confirmed", "highest waveforms")
    every = 0
    for kind, known, subject in (
        ("of one subject of PASCAL B", pascal, r"_(\d+)_\d{10,}"),
        ("of one patient of CirCor", circor, r"(\d+)_"),
        ("halves of one recording", halves, "(.*) [12]"),
    ):
        known = {name: sound for name, sound in known.items() if len(sound) >= RATE_HZ and sound.std() > 1e-4}
        subjects = pd.Series({name: re.search(subject, name)[1] for name in known})
        both = [pair for _, names in subjects.groupby(subjects) for pair in combinations(sorted(names.index), 2)]
        found = set(find(prints_of(known))[["sha256_a", "sha256_b"]].itertuples(index=False, name=None))
        sure = aligned(both, known)
        wrong = int(sure["confirmed"].sum())
        every += wrong
        say(f"| {kind} | {len(both)} | {len(found & set(both))} | {wrong} | {sure['waveform'].max():.3f} |")
    say(f"\nPrecision of confirmation, with the altered copies: {copies / max(copies + every, 1):.4f}")


def synthetic(prints: pd.DataFrame, number: int) -> np.ndarray:
    """``number`` fingerprints of 20 s, shape (number, 2, FRAMES): codes from a Markov chain of the real ones."""
    counts = np.zeros((256, 256))
    for print_ in prints["fingerprint"]:
        codes = np.frombuffer(print_, np.uint8)[: len(print_) // 2]
        np.add.at(counts, (codes[:-1], codes[1:]), 1)
    chances = np.cumsum((counts + 1e-3) / (counts + 1e-3).sum(axis=1, keepdims=True), axis=1)
    rng = np.random.default_rng(0)
    synth = np.zeros((number, 2, FRAMES), np.uint8)
    synth[:, 0, 0] = rng.integers(1, 256, number)
    synth[:, 1] = rng.integers(0, 256, (number, FRAMES), dtype=np.uint8)
    for t in range(1, FRAMES):
        drawn = rng.random(number)
        synth[:, 0, t] = np.minimum((chances[synth[:, 0, t - 1]] < drawn[:, None]).sum(axis=1), 255)
    return synth


def numbered(prints: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"sha256": [f"{i:09d}" for i in range(len(prints))], "fingerprint": [p.tobytes() for p in prints]}
    )


def report_time_by_size(prints: pd.DataFrame) -> None:
    """Synthetic fingerprints, of which 1 % are copies with 8 % of the bits wrong; and ten more of them, the rest known."""
    threshold = ValidationConfig().near_duplicate_similarity
    table_head("fingerprints", "seconds", "ten more, seconds", "peak MB", "copies found", "of", "other pairs")
    for number in (1_000, 10_000, 100_000):
        synth, rng, planted = synthetic(prints, number + 10), np.random.default_rng(1), number // 100
        wrong = np.packbits(rng.random((planted, FRAMES, 8)) < 0.08, axis=2)[:, :, 0]
        synth[:planted] = synth[planted : 2 * planted]
        synth[:planted, 0] ^= wrong
        synth[:planted] = np.roll(synth[:planted], 100, axis=2)
        table = numbered(synth)
        del synth
        known, first_s = timed(lambda table=table: near_duplicates(table[:-10], threshold))
        search, ten_s = timed(lambda table=table, known=known: near_duplicates(table, threshold, known))
        pairs = search.pairs
        found = int((pairs["sha256_b"].astype(int) - pairs["sha256_a"].astype(int) == planted).sum())
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        say(f"| {number:,} | {first_s:.1f} | {ten_s:.1f} | {peak_mb} | {found} | {planted} | {len(pairs) - found} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    files = {}
    for path in sorted(p for p in data.glob("*/*/*.wav") if p.parts[-3] in ("pascal", "cinc2016")):
        audio = decode(path.read_bytes())
        files["/".join(path.parts[-2:])] = (audio.mono, audio.rate_hz)
    sounds = {name: resample(x, rate, RATE_HZ) for name, (x, rate) in files.items()}
    start = time.perf_counter()
    prints = prints_of(sounds)
    say(f"Fingerprints of {len(sounds)} recordings: {time.perf_counter() - start:.1f} s")
    for which in ("first", "second"):  # the first compiles, or reads what an earlier process compiled
        say(f"Their pairs, {which} search: {timed(lambda: near_duplicates(prints, 0.98))[1]:.1f} s")
    usable = [name for name, s in sounds.items() if len(s) >= RATE_HZ and s.std() > 1e-4]
    names = [str(name) for name in np.random.default_rng(0).choice(usable, SAMPLE, replace=False)]
    copies = report_altered(files, sounds, prints, names, report_untouched(sounds, prints))
    report_negatives(data, sounds, copies)
    report_time_by_size(prints)


if __name__ == "__main__":
    main()
