"""Looking into the folders of data sets."""

from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import SYSTEM_FOLDERS, audio_files


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, without hidden ones and those of the system."""
    inside = [f for f in folder.iterdir() if f.is_dir() and f.name not in SYSTEM_FOLDERS and f.name[:1] != "."]
    return sorted(inside, key=lambda f: f.name)


def wav_files(folder: Path) -> dict[str, Path]:
    """Name, without suffix, to ``.wav`` file below ``folder``; raises `SourceError` where two have the same name."""
    files: dict[str, Path] = {}
    for path in audio_files(folder):
        if path.suffix.lower() == ".wav" and files.setdefault(path.stem, path) is not path:
            raise SourceError(
                f"{files[path.stem]} and {path} have the same name, so which one the tables mean is not known: remove "
                "one of them"
            )
    return files
