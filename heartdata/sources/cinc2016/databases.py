"""Which folders are databases of CinC 2016, and what they are called."""

import re
from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import subfolders
from heartdata.sources.cinc2016.labels import REFERENCE, has_labels, label_tables, read_labels
from heartdata.sources.cinc2016.subjects import ANNOTATIONS

DATABASES = (*(f"training-{letter}" for letter in "abcdef"), "validation")
CHALLENGE_NAME = re.compile(r"[a-f]\d{4,5}", re.IGNORECASE)


def official_name(name: str) -> str | None:
    """The challenge's own spelling of a database's name in any letter case; None for other names."""
    return name.casefold() if name.casefold() in DATABASES else None


def find_databases(folder: Path, folder_name: str) -> dict[str, Path]:
    """Name to folder of every database up to two levels below ``folder``, or of ``folder`` if it is one itself.

    Raises `SourceError` when there is none.
    """
    databases: dict[str, Path] = {}
    folders = _within(folder) or ([folder] if has_labels(folder) else [])
    # The last of several links to a folder counts, so those with the challenge's names come last.
    folders.sort(key=lambda f: official_name(f.name) is not None)
    for database in {Path(str(f)).resolve(): f for f in folders}.values():
        name = _name_of(folder, folder_name) if database is folder else official_name(database.name) or database.name
        if databases.setdefault(name, database) is not database:
            raise SourceError(f"{folder} holds {name} twice, {databases[name]} and {database}: keep one of them")
    if not databases:
        zips = ", ".join(sorted(f.name for f in folder.iterdir() if f.name.lower().endswith(".zip")))
        remedy = f"unpack {zips} in it" if zips else "give the folder (or zip) of the challenge with --data"
        raise SourceError(f"{folder} holds none of {', '.join(DATABASES)}, nor a {REFERENCE}: {remedy}")
    return dict(sorted(databases.items()))


def _within(folder: Path, levels: int = 2) -> list[Path]:
    """The databases below ``folder``, or ``folder`` where it has a table and recordings itself.

    A folder whose table is beside the challenge's databases, or above others without recordings beside it, is none.
    """
    below: list[Path] = []
    for sub in subfolders(folder) if levels else []:
        if sub.name.casefold() != ANNOTATIONS:  # has folders with the names of databases
            below += [sub] if official_name(sub.name) else _within(sub, levels - 1)
    if any(official_name(sub.name) for sub in below) or not label_tables(folder):
        return below
    return [folder] if _holds_wavs(folder, levels=0 if below else 2) else below


def _holds_wavs(folder: Path, levels: int) -> bool:
    """Whether a recording is in ``folder`` or at most ``levels`` below it."""
    if any(f.name.lower().endswith(".wav") and f.name[:1] != "." for f in folder.iterdir()):
        return True
    return levels > 0 and any(_holds_wavs(sub, levels - 1) for sub in subfolders(folder))


def unread_folders(folder: Path, databases: list[Path]) -> list[Path]:
    """The folders, ``folder`` included, that hold recordings and belong to none of ``databases``."""
    if any(folder.samefile(database) for database in databases):
        return []
    if not any(folder in database.parents for database in databases):
        return [folder] if _holds_wavs(folder, levels=2) else []
    own = [folder] if _holds_wavs(folder, levels=0) else []
    return own + [unread for sub in subfolders(folder) for unread in unread_folders(sub, databases)]


def _name_of(folder: Path, folder_name: str) -> str:
    """The name of the database in ``folder``: the folder's, or the challenge's if all recordings are of one database."""
    names = {name.casefold() for name in read_labels([folder])[0]}
    letters = {name[0] for name in names}
    if official_name(folder_name) or len(letters) != 1 or not all(map(CHALLENGE_NAME.fullmatch, names)):
        return official_name(folder_name) or folder_name
    return f"training-{letters.pop()}"


def home_databases(database: str, names: list[str]) -> dict[str, str]:
    """Recording to the database that it is from, which is another where a folder holds several of the challenge's.

    ``validation`` stays one, although its recordings are copies of theirs.
    """
    letters = {name: name[0].casefold() for name in names if CHALLENGE_NAME.fullmatch(name)}
    if database == "validation" or len(set(letters.values())) < 2 or 2 * len(letters) <= len(names):
        return dict.fromkeys(names, database)
    return {name: f"training-{letters[name]}" if name in letters else database for name in names}
