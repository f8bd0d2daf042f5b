"""The benchmarks of `make bench`, in the order of docs/benchmarks.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """A module of this folder, its title, and about how many minutes it takes on two idle cores."""

    name: str
    title: str
    minutes: float


SUITE = (
    Benchmark("spectrograms", "Spectrograms", 1),
    Benchmark("preparation", "Preparation through Prefect", 7),
    Benchmark("audit", "Checks", 2.5),
    Benchmark("training", "Training", 1.5),
    Benchmark("threads", "Idle threads", 4.5),
    Benchmark("serving", "Serving", 1.5),
    Benchmark("up", "Servers", 4.5),
    Benchmark("duplicates", "Near-duplicates", 2.5),
    Benchmark("quality", "Signal quality", 0.5),
    Benchmark("beats", "Beats and heart rate", 0.5),
    Benchmark("explanations", "Explanations", 0.7),
    Benchmark("adaptation", "Calibration to a new place", 1),
    Benchmark("intervals", "Intervals", 2),
    Benchmark("promotion", "Promotion", 1.5),
    Benchmark("label_errors", "Suspected label errors", 0.2),
)
