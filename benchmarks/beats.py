"""How well S1, S2 and the heart rate are found: against synthetic recordings, PASCAL set A and CirCor's annotations.

python -m benchmarks.beats --data ../shared/data [--figure docs/images/beats.png]
"""

import argparse
import csv
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import mir_eval
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from heartdata.audio import synthesis
from heartdata.audio.beats import MIN_CONFIDENCE, WEIGHTS, confidence, heart_rate_bpm, segment
from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.reports.plots import BLUE, GREY, RED, add_grid, as_png

WITHIN = 0.05  # of the true heart rate
TOLERANCES_S = (0.06, 0.1)
ONSET_S = {"s1": 0.04, "s2": 0.03}  # synthetic sounds are known by their centre; they begin two deviations before it
PASCAL_S = {"s1": 0.05, "s2": 0.045}  # PASCAL's are marked at their loudest
SYNTHETIC = 500
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


def synthetic() -> Iterator[Truth]:
    """Recordings as the demo makes them, and as pretraining does: of any device, with faint murmurs, S3 and S4."""
    for number in range(SYNTHETIC):
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
        name = "Synthetic, no heart" if kind == "artifact" else "Synthetic, any device" if hard else "Synthetic"
        yield Truth(name, str(number), sound, s1_s, s2_s, whole)


def read(path: Path) -> np.ndarray:
    audio = decode(path.read_bytes())
    return resample(audio.mono, audio.rate_hz, RATE_HZ)


def circor(folder: Path) -> Iterator[Truth]:
    for path in sorted(folder.glob("*.tsv")):
        rows = pd.read_csv(path, sep="\t", names=["start_s", "end_s", "state"])
        rows = rows[rows["state"] > 0]
        spans: list[tuple[float, float]] = []
        for start_s, end_s in zip(rows["start_s"], rows["end_s"], strict=True):
            if spans and start_s - spans[-1][1] < 0.02:
                start_s = spans.pop()[0]
            spans.append((start_s, end_s))
        s1_s, s2_s = (rows["start_s"][rows["state"] == state].to_numpy() for state in (1, 3))
        yield Truth("CirCor", path.stem.split("_")[0], read(path.with_suffix(".wav")), s1_s, s2_s, spans)


def pascal(folder: Path) -> Iterator[Truth]:
    with (folder / "set_a_timing.csv").open() as file:
        timing = pd.DataFrame(csv.DictReader(file))
    for name, rows in timing.groupby("fname"):
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


def compare(truth: Truth) -> dict[str, object]:
    """One row: what was found, counts for F-measures, and the heart rates."""
    found = segment(truth.sound)
    s1_s, s2_s = (found.s1_s, found.s2_s) if found else (np.empty(0), np.empty(0))
    true = {"s1": inside(truth.s1_s, truth.spans_s), "s2": inside(truth.s2_s, truth.spans_s)}
    seen = {"s1": inside(s1_s, truth.spans_s), "s2": inside(s2_s, truth.spans_s)}
    row: dict[str, object] = {"collection": truth.collection, "subject": truth.subject, "found": found}
    for name, other in (("s1", "s2"), ("s2", "s1")):
        row |= {f"{name}_true": len(true[name]), f"{name}_found": len(seen[name])}
        row[f"{name}_swapped"] = matches(true[name], seen[other], TOLERANCES_S[0])
        for tolerance_s in TOLERANCES_S:
            row[f"{name}_{tolerance_s}"] = matches(true[name], seen[name], tolerance_s)
    row["beat_f"] = mir_eval.beat.f_measure(true["s1"], seen["s1"]) if len(true["s1"]) else np.nan
    reference, estimate = (intervals_s(sounds, truth.spans_s) for sounds in ([truth.s1_s, truth.s2_s], [s1_s, s2_s]))
    row["true_bpm"] = heart_rate_bpm(reference) if len(reference) >= 2 else np.nan
    row["bpm"] = heart_rate_bpm(estimate) if len(estimate) else np.nan
    row["right"] = abs(float(row["bpm"]) / float(row["true_bpm"]) - 1) < WITHIN  # type: ignore[arg-type]
    row["confidence"] = confidence(found) if found else 0.0
    row["fitted_on"] = zlib.crc32(truth.subject.encode()) % 2 == 0
    return row


def matches(reference_s: np.ndarray, estimated_s: np.ndarray, tolerance_s: float) -> int:
    return len(mir_eval.util.match_events(reference_s, estimated_s, tolerance_s))


def f_measure(rows: pd.DataFrame, name: str, tolerance_s: float) -> float:
    """Over all heart sounds of ``rows``."""
    return 2 * rows[f"{name}_{tolerance_s}"].sum() / max(1, (rows[f"{name}_true"] + rows[f"{name}_found"]).sum())


def table(rows: pd.DataFrame, with_heart: list[str]) -> Iterator[str]:
    yield (
        "| recordings | | S1 F (60 ms) | S1 F (100 ms) | S2 F (60 ms) | S2 F (100 ms) | beat F | S1 taken for S2 | reported | rate within 5 % |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for name in with_heart:
        of_collection = rows[rows["collection"] == name]
        reported = of_collection[of_collection["confidence"] >= MIN_CONFIDENCE]
        for which, chosen in (("all", of_collection), ("reported", reported)):
            scores = [f_measure(chosen, each, at) for each in ("s1", "s2") for at in TOLERANCES_S]
            swapped = chosen["s1_swapped"].sum() / chosen["s1_true"].sum()
            cells = [f"{value:.3f}" for value in (*scores, chosen["beat_f"].mean())]
            yield (
                f"| {name}, {which} | {len(chosen)} | {' | '.join(cells)} | {swapped:.1%} | "
                f"{len(chosen) / len(of_collection):.0%} | {chosen['right'].mean():.1%} |"
            )


def fit(rows: pd.DataFrame) -> Iterator[str]:
    """The weights of `confidence`, from half of the subjects, and how often they are right on the other half."""
    known = rows[rows["found"].notna() & (rows["true_bpm"].notna() | (rows["collection"] == "Synthetic, no heart"))]
    features = pd.DataFrame([[getattr(found, name) for name in WEIGHTS] for found in known["found"]], known.index)
    train = known["fitted_on"].astype(bool)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[train].to_numpy(), known["right"][train])
    scaler, regression = model
    for name, *values in zip(WEIGHTS, scaler.mean_, scaler.scale_, regression.coef_[0], strict=True):
        yield f'    "{name}": ({", ".join(f"{value:.3f}" for value in values)}),'
    yield f"INTERCEPT = {regression.intercept_[0]:.3f}"
    sure = pd.Series(model.predict_proba(features.to_numpy())[:, 1], known.index)
    for part, chosen in (("fitted on", train), ("others", ~train)):
        for bound in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
            above = chosen & (sure >= bound)
            yield f"{part}, confidence >= {bound}: {above.sum() / chosen.sum():.1%} reported, {known['right'][above].mean():.1%} right"


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


def declined(data: Path) -> Iterator[str]:
    """How often the beats of recordings without annotations are left out, by what people said of their quality."""
    from benchmarks.quality import judged_files

    verdicts = pd.DataFrame(
        [
            (
                "PASCAL B" if database == "PASCAL B" else "CinC 2016",
                good,
                found is not None and confidence(found) >= MIN_CONFIDENCE,
            )
            for database, good, path in judged_files(data)
            for found in [segment(read(path))]
        ],
        columns=["collection", "good", "reported"],
    )
    for (name, good), rows in verdicts.groupby(["collection", "good"]):
        yield f"{name}, judged {'good' if good else 'poor'}: {rows['reported'].mean():.0%} of {len(rows)} reported"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    truths = [
        *circor(arguments.data / "circor2022" / "training_data"),
        *pascal(arguments.data / "pascal"),
        *synthetic(),
    ]
    rows = pd.DataFrame([compare(truth) for truth in truths])
    with_heart = [name for name in rows["collection"].unique() if name != "Synthetic, no heart"]
    lines = [*table(rows, with_heart), "", *fit(rows), ""]
    no_heart = rows[rows["collection"] == "Synthetic, no heart"]
    lines.append(
        f"Synthetic, no heart: {(no_heart['confidence'] >= MIN_CONFIDENCE).mean():.0%} of {len(no_heart)} reported"
    )
    for line in (*lines, *declined(arguments.data)):
        sys.stdout.write(line + "\n")
    if arguments.figure:
        arguments.figure.write_bytes(plot(rows))


if __name__ == "__main__":
    main()
