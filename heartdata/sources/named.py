"""Which file a table means that writes its name in another way: without suffix or folder, or in other letter cases."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from heartdata.sources.tables import folded


class FileLookup:
    """The audio files ``paths`` below ``root`` by every name that a table may give them."""

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        self.root, self.paths = root, paths

    def candidates(self, name: str) -> list[Path]:
        """The files that ``name`` (with slashes) may stand for: whole as a path, or a bare name in whatever folder."""
        return self._by_name.get(folded(str(PurePosixPath(name))), [])

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            for name in _names(PurePosixPath(path.relative_to(self.root))):
                by_name[name].append(path)
        return by_name


def _names(path: PurePosixPath) -> set[str]:
    return {folded(str(p)) for p in (path, path.with_suffix(""), PurePosixPath(path.name), PurePosixPath(path.stem))}
