"""The benchmarks of `make bench`, in the order of docs/benchmarks.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """A module of this folder, its title, and about how many minutes it takes on two idle cores."""

    name: str
    title: str
    minutes: float


SUITE = (
    Benchmark("spectrograms", "Spectrograms", 1.5),
    Benchmark("preparation", "Preparation through Prefect", 6.0),
    Benchmark("audit", "Checks", 3.0),
    Benchmark("training", "Training", 3.5),
    Benchmark("threads", "Idle threads", 3.5),
    Benchmark("serving", "Serving", 2.5),
    Benchmark("up", "Servers", 2.5),
    Benchmark("duplicates", "Near-duplicates", 3.0),
    Benchmark("quality", "Signal quality", 1.0),
    Benchmark("beats", "Beats and heart rate", 1.0),
    Benchmark("explanations", "Explanations", 1.5),
    Benchmark("adaptation", "Calibration to a new place", 1.5),
    Benchmark("intervals", "Intervals", 1.5),
    Benchmark("promotion", "Promotion", 2.0),
    Benchmark("label_errors", "Suspected label errors", 0.5),
)
