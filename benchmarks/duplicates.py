"""Near-duplicates: how many altered copies of real recordings are found, and how many different recordings of one subject;
beside the correlation of envelopes. And time by size.

    python -m benchmarks.duplicates [--data ../shared/data] [--copies 150]
    python -m benchmarks.duplicates --pairs    # those among the untouched recordings

The envelopes' bound is the highest correlation of two different recordings of one subject, so that none is taken for a copy.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from scipy.cluster.hierarchy import DisjointSet
from scipy.signal import butter, sosfiltfilt

from benchmarks.command import in_turn, run_benchmark, say, seconds_of
from benchmarks.rows import Row, Target, absent, scored, timed
from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import HOP, RATE_HZ, fingerprint
from heartdata.checks.near_duplicates import near_duplicates
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.waveforms import confirm

SIZES = {"copies": (150, 4), "files": (10_000, 40), "fingerprints": (10_000, 200), "repeats": (3, 1)}
PAIRWISE = 400  # fingerprints of which all pairs are compared
ENVELOPES = "correlation of envelopes"
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


def find(prints: pd.DataFrame) -> pd.DataFrame:
    return near_duplicates(prints, ValidationConfig().near_duplicate_similarity).pairs


def prints_of(sounds: dict[str, np.ndarray]) -> pd.DataFrame:
    """Fingerprints of sounds at RATE_HZ, under their names."""
    return pd.DataFrame({"sha256": list(sounds), "fingerprint": [fingerprint(s) for s in sounds.values()]})


def correlations(a: np.ndarray, b: np.ndarray, common: float = 0.4) -> np.ndarray:
    """Of two signals at each lag (those beyond the length of ``a`` are negative), 0 unless ``common`` of the shorter overlaps."""
    size = 1 << (len(a) + len(b)).bit_length()

    def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(y, size).conj(), size)

    ones_a, ones_b = np.ones(len(a)), np.ones(len(b))
    power = np.maximum(cross(a * a, ones_b), 0) * np.maximum(cross(ones_a, b * b), 0)
    enough = cross(ones_a, ones_b) >= common * min(len(a), len(b))
    return np.where(enough, np.abs(cross(a, b) / np.sqrt(power + 1e-12)), 0)


def best_alignment(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Highest correlation of two waveforms (25-150 Hz), and the sample of ``a`` where the first of ``b`` is then."""
    sos = butter(3, (25, 150), "bandpass", fs=RATE_HZ, output="sos")
    a, b = (sosfiltfilt(sos, s.astype(np.float64)) for s in (a, b))
    correlation = correlations(a, b)
    lag = int(correlation.argmax())
    return float(correlation[lag]), lag if lag < len(a) else lag - (1 << (len(a) + len(b)).bit_length())


def envelope(print_: bytes) -> np.ndarray:
    """The envelope of a fingerprint without its mean."""
    values = np.frombuffer(print_, np.uint8)[len(print_) // 2 :].astype(float)
    return values - values.mean() if len(values) else np.zeros(1)


def envelope_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The highest of two sounds at RATE_HZ."""
    return float(correlations(*(envelope(fingerprint(sound)) for sound in (a, b))).max())


def aligned(pairs: list[tuple[str, str]], sounds: dict[str, np.ndarray]) -> pd.DataFrame:
    """Pairs of different recordings with the columns of `heartdata.checks.waveforms.confirm`, where they agree most."""
    offsets = [round(best_alignment(sounds[a], sounds[b])[1] / HOP) for a, b in pairs]
    table = pd.DataFrame(pairs, columns=["sha256_a", "sha256_b"])
    return confirm(table.assign(offset_frames=offsets), sounds.get)


def clusters_of(pairs: pd.DataFrame) -> dict[str, str]:
    """Each recording that is in a pair, with the first of its cluster."""
    clusters = DisjointSet([*pairs["sha256_a"], *pairs["sha256_b"]])
    for pair in pairs.itertuples():
        clusters.merge(pair.sha256_a, pair.sha256_b)
    return {name: min(cluster) for cluster in clusters.subsets() for name in cluster}


def untouched_pairs(data: Path) -> Iterator[str]:
    """print the pairs among the untouched recordings of PASCAL and CinC 2016"""
    sounds = at_search_rate(read(data, SIZES["files"][0]))
    pairs = confirm(find(prints_of(sounds)), sounds.get)
    yield "| pair | envelopes | codes | waveforms 25-150 Hz | confirmed |\n|---|---|---|---|---|"
    for pair in pairs.itertuples():
        a, b = pair.sha256_a, pair.sha256_b
        known = "yes" if pair.confirmed else "no"
        correlation = best_alignment(sounds[a], sounds[b])[0]
        yield f"| {a} = {b} | {pair.similarity:.3f} | {pair.agreement:.3f} | {correlation:.3f} | {known} |"
    yield f"\n{len(pairs)} pairs among {len(sounds)}, {pairs['confirmed'].sum()} confirmed, {pairs['alike'].sum()} alike"


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


def of_copies(files: dict[str, Sound], sounds: dict[str, np.ndarray], copies: int, bound: float) -> Iterator[Row]:
    """How many altered copies of some recordings are found among all untouched ones, and how many pairs are wrong."""
    usable = [name for name, s in sounds.items() if len(s) >= RATE_HZ and s.std() > 1e-4]
    names = [str(name) for name in np.random.default_rng(0).choice(usable, min(copies, len(usable)), replace=False)]
    prints = prints_of(sounds)
    root = clusters_of(find(prints))
    confirmed = wrong = found_of_all = others_of_all = 0
    for kind, change in CHANGES.items():
        say(f"copies: {kind}")
        altered = alter(change, files, names)
        pairs = find(pd.concat([prints, prints_of(altered)]))
        pairs = pairs[pairs["sha256_a"].isin(altered) | pairs["sha256_b"].isin(altered)]
        found = sum(a == b for a, b in original_names(pairs))
        others = sum(root.get(a, a) != root.get(b, b) for a, b in original_names(pairs))
        found_of_all, others_of_all = found_of_all + found, others_of_all + others
        sure = confirm(pairs, (sounds | altered).get)
        sure = sure[sure["confirmed"]]
        confirmed += sum(a == b for a, b in original_names(sure))
        wrong += sum(root.get(a, a) != root.get(b, b) for a, b in original_names(sure))
        by_envelope = sum(
            envelope_correlation(sounds[n.removesuffix(" altered")], c) > bound for n, c in altered.items()
        )
        yield scored(
            f"{len(names)} copies, {kind}: found, and {others} wrong pairs", 100 * found / len(names), ENVELOPES,
            100 * by_envelope / len(names), unit="%",
        )  # fmt: skip
    yield scored(
        f"all these copies: {confirmed} confirmed by the waveforms, of all confirmed pairs right",
        100 * confirmed / max(confirmed + wrong, 1), "of all pairs that the fingerprint alone finds",
        100 * found_of_all / max(found_of_all + others_of_all, 1), unit="%", target=Target(of="heartbeat", least=99),
    )  # fmt: skip


def of_different(data: Path, sounds: dict[str, np.ndarray], files: int) -> tuple[list[Row], float]:
    """Rows about different recordings of one subject and device, aligned where they agree most, and about the halves of one
    recording; and the highest correlation of envelopes.
    """
    circor = {}
    for path in sorted(data.glob("circor2022/training_data/*.wav"))[:files]:
        audio = decode(path.read_bytes())
        circor[path.stem] = resample(audio.mono, audio.rate_hz, RATE_HZ)
    pascal = {name: sound for name, sound in sounds.items() if name.startswith("set_b/")}
    halves = {}
    for name, sound in (sounds | circor).items():
        if len(sound) >= 16 * RATE_HZ:
            half = len(sound) // 2
            halves |= {f"{name} 1": sound[:half], f"{name} 2": sound[half:]}
    rows, highest = [], 0.0
    for kind, known, subject in (
        ("of one subject of PASCAL B", pascal, r"_(\d+)_\d{10,}"),
        ("of one patient of CirCor", circor, r"(\d+)_"),
        ("that are halves of one recording", halves, "(.*) [12]"),
    ):
        say(f"different recordings {kind}")
        known = {name: sound for name, sound in known.items() if len(sound) >= RATE_HZ and sound.std() > 1e-4}
        subjects = pd.Series({name: re.search(subject, name)[1] for name in known}, dtype=object)
        both = [pair for _, names in subjects.groupby(subjects) for pair in combinations(sorted(names.index), 2)]
        if not both:
            rows.append(absent(f"different recordings {kind}", ENVELOPES, "needs more recordings"))
            continue
        found = set(find(prints_of(known))[["sha256_a", "sha256_b"]].itertuples(index=False, name=None))
        similar = [envelope_correlation(known[a], known[b]) for a, b in both]
        highest = max(highest, *similar)
        wrong = int(aligned(both, known)["confirmed"].sum())
        threshold = ValidationConfig().near_duplicate_similarity
        rows.append(scored(
            f"{len(both):,} pairs of different recordings {kind}: found, of them {wrong} confirmed", len(found & set(both)),
            f"envelopes correlated by {threshold} or more", float(np.sum(np.array(similar) >= threshold)), lower_is_better=True,
            target=Target(of="heartbeat", most=0),
        ))  # fmt: skip
    return rows, highest


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


def of_size(prints: pd.DataFrame, count: int, repeats: int) -> Iterator[Row]:
    """Synthetic fingerprints, of which 1 % are copies with 8 % of the bits wrong; and ten more of them, the rest known."""
    threshold, tenth = ValidationConfig().near_duplicate_similarity, count // 10
    synth, rng, planted = synthetic(prints, count + 10), np.random.default_rng(1), count // 100
    wrong = np.packbits(rng.random((planted, FRAMES, 8)) < 0.08, axis=2)[:, :, 0]
    synth[:planted] = synth[planted : 2 * planted]
    synth[:planted, 0] ^= wrong
    synth[:planted] = np.roll(synth[:planted], 100, axis=2)
    table = numbered(synth)
    envelopes = [envelope(print_) for print_ in table["fingerprint"][: min(PAIRWISE, count)]]
    known = near_duplicates(table[:-10], threshold)
    pairs = near_duplicates(table, threshold, known).pairs
    found = int((pairs["sha256_b"].astype(int) - pairs["sha256_a"].astype(int) == planted).sum())
    ways = {
        "all": lambda: seconds_of(near_duplicates, table[:-10], threshold),
        "ten more": lambda: seconds_of(near_duplicates, table, threshold, known),
        "a tenth": lambda: seconds_of(near_duplicates, table[:tenth], threshold),
        "few": lambda: seconds_of(near_duplicates, table[: len(envelopes)], threshold),
    }
    seconds = in_turn(ways, repeats)
    say("all pairs")
    pairwise_s = seconds_of(lambda: [correlations(a, b).max() for a, b in combinations(envelopes, 2)])
    yield timed(
        f"search of {len(envelopes)} fingerprints of 20 s",
        "s",
        seconds["few"],
        "envelopes correlated pair by pair",
        [pairwise_s],
    )
    yield timed(
        f"search of {count:,}", "s", seconds["all"], f"ten times the seconds of {tenth:,}",
        [10 * s for s in seconds["a tenth"]], target=Target(of="heartbeat", most=8),
    )  # fmt: skip
    yield timed(f"ten more beside {count:,} known ones", "s", seconds["ten more"], "the search of all", seconds["all"])
    yield scored(
        f"planted copies found, and {len(pairs) - found} wrong pairs", found, "planted copies", planted,
        target=Target(least=1),
    )  # fmt: skip


def read(data: Path, files: int) -> dict[str, Sound]:
    """The recordings of PASCAL and CinC 2016, ``files`` of them at most."""
    paths = sorted(p for p in data.glob("*/*/*.wav") if p.parts[-3] in ("pascal", "cinc2016"))
    audio = {"/".join(p.parts[-2:]): decode(p.read_bytes()) for p in paths[:: 1 + (len(paths) - 1) // files]}
    return {name: (each.mono, each.rate_hz) for name, each in audio.items()}


def at_search_rate(files: dict[str, Sound]) -> dict[str, np.ndarray]:
    return {name: resample(x, rate, RATE_HZ) for name, (x, rate) in files.items()}


def measure(data: Path, copies: int, files: int, fingerprints: int, repeats: int) -> Iterator[Row]:
    say("reading recordings")
    known = read(data, files)
    if not known:
        yield absent("copies found", ENVELOPES, f"needs pascal and cinc2016 in {data.name}/")
        return
    sounds = at_search_rate(known)
    rows, bound = of_different(data, sounds, files)
    yield from of_copies(known, sounds, copies, bound)
    yield from rows
    yield from of_size(prints_of(sounds), fingerprints, repeats)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES, pairs=untouched_pairs)
