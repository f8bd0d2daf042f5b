"""Finding the file that a table names without its suffix or folder, or in another letter case."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from heartdata.errors import SourceError
from heartdata.settings import contains_password
from heartdata.sources.table.cells import folded
from heartdata.storage.remote import is_remote


class FileLookup:
    """The audio files ``paths`` below ``root`` by every name that a table may give them."""

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        self.root, self.paths = root, paths

    def find(self, name: str) -> tuple[Path | str | None, str | None]:
        """The file that ``name`` means, or else why there is none; a URI is returned as it is.

        A backslash may stand for a slash. Raises `SourceError` for a URI with a password.
        """
        if not name:
            return None, "the table gives no path"
        if contains_password(name):
            raise SourceError("a path of the table has a password in it: remove it and set it in the environment")
        if is_remote(name):
            return name, None
        slashed = name.replace("\\", "/")
        try:
            for spelling in (name, slashed):
                if (path := self.root / spelling).is_file():
                    return path, None
        except OSError as error:  # a name too long for the file system, a folder without permission
            return None, f"the path cannot be read: {error}"
        candidates = self.candidates(slashed)
        if len(candidates) == 1:
            return candidates[0], None
        if candidates:
            examples = " and ".join(str(path.relative_to(self.root)) for path in candidates[:2])
            return None, f"{name} may mean {len(candidates)} files, such as {examples}"
        if PureWindowsPath(name).is_absolute() and not name.startswith("/"):
            return None, f"{name} is a path of a Windows computer, while paths should begin at {self.root}"
        path = self.root / slashed
        return None, f"{path} is a broken link" if path.is_symlink() else f"there is no file {path}"

    def candidates(self, name: str) -> list[Path]:
        """The files that ``name`` (with slashes) may mean: a whole path, or a bare name in any folder."""
        return self._by_name.get(folded(str(PurePosixPath(name))), [])

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            below = PurePosixPath(path.relative_to(self.root))
            names = (str(below), str(below.with_suffix("")), below.name, below.stem)
            for name in {folded(name) for name in names}:
                by_name[name].append(path)
        return by_name
