"""Copies of the store's files under plain names, for people; the pipeline itself never reads them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from heartdata.storage.store import Artifact, Store, atomic_write


def copy_files(files: Mapping[str, Artifact], folder: Path, store: Store) -> None:
    """Copy each file to its name below ``folder``."""
    for name, artifact in files.items():
        with store.local(artifact.name).open("rb") as source, atomic_write(folder / name) as file:
            shutil.copyfileobj(source, file)
