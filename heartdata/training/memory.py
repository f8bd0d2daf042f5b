"""How much memory this process has used."""

import resource
import sys


def peak_memory_mb() -> float:
    """The most resident memory that this process ever had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024**2)
