"""How well S1, S2 and the heart rate are found: against CirCor's annotations, PASCAL set A's marks and synthetic recordings;
beside peaks of the Shannon energy, told apart by the shorter interval (Liang et al. 1997).

    python -m benchmarks.beats [--data ../shared/data]
    python -m benchmarks.beats --weights    # of the confidence, for heartdata/audio/beats.py
    python -m benchmarks.beats --figure     # draws docs/images/beats.png

Synthetic recordings have murmurs, extrasystoles, S3, S4 and up to 200 beats a minute. Times count inside annotated spans.
"""

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import mir_eval
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.signal import butter, find_peaks, sosfiltfilt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.command import in_turn, run_benchmark, say, seconds_of
from benchmarks.pages import DOCS
from benchmarks.quality import PASCAL, judged_files
from benchmarks.rows import Row, Target, absent, scored, share, timed
from heartdata.audio import synthesis
from heartdata.audio.beats import MIN_CONFIDENCE, WEIGHTS, confidence, heart_rate_bpm, segment
from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.reports.plots import BLUE, GREY, RED, add_grid, as_png

WITHIN = 0.05  # of the true heart rate
TOLERANCE_S = 0.06
ONSET_S = {"s1": 0.04, "s2": 0.03}  # synthetic sounds are known by their centre; they begin two deviations before it
PASCAL_S = {"s1": 0.05, "s2": 0.045}  # PASCAL's are marked at their loudest
SIZES = {"synthetic": (500, 10), "files": (1_000, 4), "judged": (10_000, 24), "repeats": (5, 1)}
NO_HEART = "Synthetic, no heart"
OURS, PEER = "ours", "peaks of the Shannon energy"
SOUNDS_HZ = (25, 150)
KINDS = ("normal", "murmur", "extrasystole", synthesis.EXTRA_SOUND, "artifact")


@dataclass(frozen=True)
class Truth:
    """A recording with its true heart sounds in seconds, and the spans in which they are annotated."""

    collection: str
    subject: str
    sound: np.ndarray
    s1_s: np.ndarray
    s2_s: np.ndarray
    spans_s: list[tuple[float, float]]


def synthetic(count: int) -> Iterator[Truth]:
    """Recordings as the demo makes them, and as pretraining does: of any device, with faint murmurs, S3 and S4."""
    for number in range(count):
        rng = np.random.default_rng([18, number])
        kind, hard = KINDS[number % len(KINDS)], number // len(KINDS) % 2 == 1
        heart = replace(synthesis.Heart.draw("normal", rng), kind=kind)
        if hard or kind == synthesis.EXTRA_SOUND:
            heart = synthesis.with_random_variation(heart, rng)
        if number % 7 == 0:
            heart = replace(heart, rate_bpm=rng.uniform(120, 200))
        made = synthesis.synthesize(heart, rng.uniform(5, 15), number % 4, rng)
        samples = synthesis.simulate_device(made.samples, kind != "artifact", rng) if hard else made.samples
        sound = resample(samples, synthesis.RATE_HZ, RATE_HZ)
        whole = [(0.0, len(sound) / RATE_HZ)] if kind != "artifact" else []
        s1_s, s2_s = made.s1_s - ONSET_S["s1"], made.s2_s - ONSET_S["s2"]
        name = NO_HEART if kind == "artifact" else "Synthetic, any device" if hard else "Synthetic"
        yield Truth(name, str(number), sound, s1_s, s2_s, whole)


def read(path: Path) -> np.ndarray:
    audio = decode(path.read_bytes())
    return resample(audio.mono, audio.rate_hz, RATE_HZ)


def circor(folder: Path, files: int) -> Iterator[Truth]:
    for path in sorted(folder.glob("*.tsv"))[:files]:
        rows = pd.read_csv(path, sep="\t", names=["start_s", "end_s", "state"])
        rows = rows[rows["state"] > 0]
        spans: list[tuple[float, float]] = []
        for start_s, end_s in zip(rows["start_s"], rows["end_s"], strict=True):
            if spans and start_s - spans[-1][1] < 0.02:
                start_s = spans.pop()[0]
            spans.append((start_s, end_s))
        s1_s, s2_s = (rows["start_s"][rows["state"] == state].to_numpy() for state in (1, 3))
        yield Truth("CirCor", path.stem.split("_")[0], read(path.with_suffix(".wav")), s1_s, s2_s, spans)


def pascal(folder: Path, files: int) -> Iterator[Truth]:
    with (folder / "set_a_timing.csv").open() as file:
        timing = pd.DataFrame(csv.DictReader(file))
    for name, rows in list(timing.groupby("fname"))[:files]:
        path = folder / str(name)
        rate_hz = decode(path.read_bytes()).rate_hz
        at_s = rows["location"].astype(float) / rate_hz
        s1_s, s2_s = (at_s[rows["sound"] == each].to_numpy() - PASCAL_S[each.lower()] for each in ("S1", "S2"))
        ends = np.concatenate([s1_s, s2_s])
        yield Truth("PASCAL set A", str(name), read(path), s1_s, s2_s, [(ends.min() - 0.03, ends.max() + 0.1)])


def inside(at_s: np.ndarray, spans_s: list[tuple[float, float]]) -> np.ndarray:
    """Those in a span, but not within 30 ms of its end, where it may have been cut."""
    return at_s[[any(start - 0.03 <= at <= end - 0.03 for start, end in spans_s) for at in at_s]]


def intervals_s(sounds_s: list[np.ndarray], spans_s: list[tuple[float, float]]) -> np.ndarray:
    """From S1 to S1 and from S2 to S2, of neighbours in the same span."""
    each = [np.diff(inside(at_s, [span])) for at_s in sounds_s for span in spans_s]
    return np.concatenate(each) if each else np.empty(0)


@dataclass(frozen=True)
class Found:
    """When S1 and S2 begin, in seconds, and a confidence in the rate."""

    s1_s: np.ndarray
    s2_s: np.ndarray
    confidence: float


def by_heartbeat(sound: np.ndarray) -> Found:
    found = segment(sound)
    return Found(found.s1_s, found.s2_s, confidence(found)) if found else NOTHING


def by_energy(sound: np.ndarray) -> Found:
    """Peaks of the averaged Shannon energy that are .15 s apart or more; those before the shorter interval are S1."""
    filtered = sosfiltfilt(butter(4, SOUNDS_HZ, "bandpass", fs=RATE_HZ, output="sos"), sound)
    power = np.square(filtered / max(np.abs(filtered).max(), 1e-9))
    width, hop = RATE_HZ // 50, RATE_HZ // 100
    energy = np.convolve(-power * np.log(power + 1e-12), np.ones(width) / width, "same")[::hop]
    peaks, _ = find_peaks((energy - energy.mean()) / max(energy.std(), 1e-12), height=0, distance=15)
    if len(peaks) < 4:
        return NOTHING
    intervals = np.diff(peaks)
    first = 0 if np.median(intervals[::2]) <= np.median(intervals[1::2]) else 1
    at_s = peaks / 100 - ONSET_S["s1"]
    return Found(at_s[first::2], at_s[1 - first :: 2], 1.0)


NOTHING = Found(np.empty(0), np.empty(0), 0.0)
METHODS = {OURS: by_heartbeat, PEER: by_energy}


def compare(truth: Truth, found: Found) -> dict[str, object]:
    """Counts for F-measures, and the heart rates."""
    true = {"s1": inside(truth.s1_s, truth.spans_s), "s2": inside(truth.s2_s, truth.spans_s)}
    seen = {"s1": inside(found.s1_s, truth.spans_s), "s2": inside(found.s2_s, truth.spans_s)}
    row: dict[str, object] = {"collection": truth.collection, "subject": truth.subject}
    for name, other in (("s1", "s2"), ("s2", "s1")):
        row |= {f"{name}_true": len(true[name]), f"{name}_found": len(seen[name])}
        row[f"{name}_swapped"] = matches(true[name], seen[other])
        row[f"{name}_matched"] = matches(true[name], seen[name])
    reference, estimate = (
        intervals_s(sounds, truth.spans_s) for sounds in ([truth.s1_s, truth.s2_s], [found.s1_s, found.s2_s])
    )
    row["true_bpm"] = heart_rate_bpm(reference) if len(reference) >= 2 else np.nan
    row["bpm"] = heart_rate_bpm(estimate) if len(estimate) else np.nan
    row["right"] = abs(float(row["bpm"]) / float(row["true_bpm"]) - 1) < WITHIN  # type: ignore[arg-type]
    row["confidence"] = found.confidence
    row["fitted_on"] = zlib.crc32(truth.subject.encode()) % 2 == 0
    return row


def matches(reference_s: np.ndarray, estimated_s: np.ndarray) -> int:
    return len(mir_eval.util.match_events(reference_s, estimated_s, TOLERANCE_S))


def f_measure(rows: pd.DataFrame, name: str) -> float:
    """Over all heart sounds of ``rows``."""
    return 2 * rows[f"{name}_matched"].sum() / max(1, (rows[f"{name}_true"] + rows[f"{name}_found"]).sum())


def of_collection(name: str, tables: dict[str, pd.DataFrame]) -> Iterator[Row]:
    """F-measures, confusions of S1 with S2, and heart rates of both methods."""
    ours, theirs = (table[table["collection"] == name] for table in tables.values())
    of = f"{name}, {len(ours)} recordings"
    for sound in ("s1", "s2"):
        yield scored(f"{of}: {sound.upper()} F (60 ms)", f_measure(ours, sound), PEER, f_measure(theirs, sound))
    swapped = (100 * rows["s1_swapped"].sum() / max(1, rows["s1_true"].sum()) for rows in (ours, theirs))
    yield scored(f"{of}: S1 taken for S2", next(swapped), PEER, next(swapped), unit="%", lower_is_better=True)
    right = (share(rows["right"].sum(), len(rows)) for rows in (ours, theirs))
    yield scored(f"{of}: heart rate within 5 %", next(right), PEER, next(right), unit="%")
    ours = ours[~ours["fitted_on"].astype(bool)]
    reported = ours[ours["confidence"] >= MIN_CONFIDENCE]
    if len(reported):
        yield scored(
            f"{name}, {len(ours)} recordings whose subjects the confidence was not fitted on, of which "
            f"{100 * len(reported) / len(ours):.0f} % are reported: heart rate within 5 %",
            share(reported["right"].sum(), len(reported)), "all of them, ours", share(ours["right"].sum(), len(ours)), unit="%",
            target=Target(of="heartbeat", least=95),
        )  # fmt: skip


def weights(data: Path) -> Iterator[str]:
    """print the weights of the confidence, fitted on half of the subjects, and how often it is right on the others"""
    truths = list(all_truths(data, *(SIZES[name][0] for name in ("synthetic", "files"))))
    rows = pd.DataFrame([compare(truth, by_heartbeat(truth.sound)) for truth in truths])
    segments = [segment(truth.sound) for truth in truths]
    known = np.array([found is not None for found in segments])
    known &= (rows["true_bpm"].notna() | (rows["collection"] == NO_HEART)).to_numpy()
    rows = rows[known]
    features = pd.DataFrame(
        [
            [getattr(found, name) for name in WEIGHTS]
            for found, is_known in zip(segments, known, strict=True)
            if is_known
        ],
        rows.index,
    )
    train = rows["fitted_on"].astype(bool)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[train].to_numpy(), rows["right"][train])
    scaler, regression = model
    for name, *values in zip(WEIGHTS, scaler.mean_, scaler.scale_, regression.coef_[0], strict=True):
        yield f'    "{name}": ({", ".join(f"{value:.3f}" for value in values)}),'
    yield f"INTERCEPT = {regression.intercept_[0]:.3f}"
    sure = pd.Series(model.predict_proba(features.to_numpy())[:, 1], rows.index)
    for part, chosen in (("fitted on", train), ("others", ~train)):
        for bound in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
            above = chosen & (sure >= bound)
            yield f"{part}, confidence >= {bound}: {above.sum() / chosen.sum():.1%} reported, {rows['right'][above].mean():.1%} right"


def plot(rows: pd.DataFrame) -> bytes:
    """Share of rates within 5 % by confidence, and rates found over true rates."""
    figure = Figure(figsize=(10, 4.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    known = rows[rows["true_bpm"].notna() & rows["bpm"].notna()]
    sure = known["confidence"] >= MIN_CONFIDENCE
    for chosen, color, marker, label in ((~sure, GREY, "x", "left out"), (sure, BLUE, "o", "reported")):
        left.scatter(known["true_bpm"][chosen], known["bpm"][chosen], 9, color=color, marker=marker, label=label)
    left.plot([30, 200], [30, 200], color=RED, linewidth=0.8)
    left.set(xlabel="true heart rate (beats a minute)", ylabel="heart rate found", title="Heart rate")
    edges = np.array([0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0])
    held_out = known[~known["fitted_on"].astype(bool)]
    groups = [held_out[held_out["confidence"].between(low, high, "left")] for low, high in pairwise(edges)]
    filled = [group for group in groups if len(group)]
    right.plot([0, 1], [0, 1], color=GREY, linestyle="--")
    right.plot([g["confidence"].mean() for g in filled], [g["right"].mean() for g in filled], "o-", color=BLUE)
    for group in filled:
        right.annotate(
            f"{len(group)}",
            (group["confidence"].mean(), group["right"].mean()),
            (4, -12),
            textcoords="offset points",
            fontsize=8,
        )
    right.axvline(MIN_CONFIDENCE, color=RED, linewidth=0.8, label="least that is reported")
    right.set(
        xlabel="confidence",
        ylabel="share within 5 % of the true rate",
        title="Confidence (subjects it was not fitted on)",
    )
    for axes in (left, right):
        add_grid(axes)
        axes.legend(fontsize=8)
    return as_png(figure, f"{len(known)} recordings with known beats: CirCor, PASCAL set A and synthetic ones.")


def figure(data: Path) -> Iterator[str]:
    """draw docs/images/beats.png"""
    truths = all_truths(data, *(SIZES[name][0] for name in ("synthetic", "files")))
    path = DOCS / "images" / "beats.png"
    path.write_bytes(plot(pd.DataFrame([compare(truth, by_heartbeat(truth.sound)) for truth in truths])))
    yield str(path)


def reported_by_quality(data: Path, judged: int) -> Iterator[Row]:
    """How often a rate is reported of recordings without annotations, by what people said of their quality."""
    files = list(judged_files(data))
    verdicts = pd.DataFrame(
        [
            (PASCAL if database == PASCAL else "CinC 2016", good, by_heartbeat(read(path)).confidence >= MIN_CONFIDENCE)
            for database, good, path in files[:: 1 + (len(files) - 1) // judged]
        ],
        columns=["collection", "good", "reported"],
    )
    for name, rows in verdicts.groupby("collection"):
        good, poor = (rows["reported"][rows["good"] == is_good] for is_good in (True, False))
        if len(good) and len(poor):
            yield scored(
                f"{name}, {len(good)} recordings judged good: a rate is reported", share(good.sum(), len(good)),
                f"{len(poor)} judged poor", share(poor.sum(), len(poor)), unit="%",
            )  # fmt: skip


def all_truths(data: Path, synthetic_recordings: int, files: int) -> Iterator[Truth]:
    """CirCor's and PASCAL's recordings where they are, and synthetic ones."""
    if (data / "circor2022").is_dir():
        yield from circor(data / "circor2022" / "training_data", files)
    if (data / "pascal").is_dir():
        yield from pascal(data / "pascal", files)
    yield from synthetic(synthetic_recordings)


def measure(data: Path, synthetic: int, files: int, judged: int, repeats: int) -> Iterator[Row]:
    each: dict[str, list[dict[str, object]]] = {name: [] for name in METHODS}
    longest = NOTHING.s1_s
    for number, truth in enumerate(all_truths(data, synthetic, files)):
        if number % 50 == 0:
            say(f"{number} recordings with known beats")
        for name, method in METHODS.items():
            each[name].append(compare(truth, method(truth.sound)))
        longest = max(longest, truth.sound, key=len)
    tables = {name: pd.DataFrame(rows) for name, rows in each.items()}
    for name in tables[OURS]["collection"].unique():
        if name != NO_HEART:
            yield from of_collection(name, tables)
    without = tables[OURS][tables[OURS]["collection"] == NO_HEART]
    yield scored(
        f"{NO_HEART}, {len(without)} recordings: a rate is reported",
        share((without["confidence"] >= MIN_CONFIDENCE).sum(), len(without)), "a rate is found without the confidence",
        share((without["confidence"] > 0).sum(), len(without)), unit="%", lower_is_better=True,
    )  # fmt: skip
    say("recordings without annotations")
    if (data / "cinc2016").is_dir() and (data / "pascal").is_dir():
        yield from reported_by_quality(data, judged)
    else:
        yield absent(
            "a rate is reported, by quality", "recordings judged poor", f"needs cinc2016 and pascal in {data.name}/"
        )
    sound = np.resize(longest, 9 * RATE_HZ)
    ways = {name: (lambda method=method: 1e3 * seconds_of(method, sound)) for name, method in METHODS.items()}
    times = in_turn(ways, repeats, warm_ups=2)
    yield timed("beats of 9 s", "ms", times[OURS], PEER, times[PEER])


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES, weights=weights, figure=figure)
