"""Whether worker processes can start on this machine, and for how many there are CPUs."""

from multiprocessing import get_context

from joblib.externals.loky import cpu_count  # joblib's own is 1 where processes cannot start

__all__ = ["cpu_count", "why_no_processes"]


def why_no_processes() -> str:
    """Why worker processes cannot start, as in a container without a writable /dev/shm; empty where they can."""
    try:
        get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        return f"/dev/shm: {getattr(error, 'strerror', None) or error}"
    return ""
