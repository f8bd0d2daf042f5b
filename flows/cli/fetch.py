"""`heartbeat data list` and `heartbeat data fetch`: the known public data sets, and downloading them."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.markup import escape

from flows.cli.console import bar, plain_console
from flows.cli.outputs import expanded
from heartdata.errors import HeartbeatError
from heartdata.sources.archives import unpack
from heartdata.sources.catalogue import DATA_SETS, PHYSIONET_URL, SUMS, DataSet
from heartdata.sources.download import FetchError, chosen, fetch_files, fetch_text, missing_files, parse_sums
from heartdata.storage.store import atomic_write
from heartdata.storage.usage import existing, free_bytes

KAGGLE_FILES = ("set_a.csv", "set_b.csv", "set_a", "set_b")


def list_sets(root: Path) -> None:
    """Show the known data sets, and how much of each is below ``root``."""
    console = plain_console()
    for known in DATA_SETS.values():
        console.print(f"[bold]{known.name}[/bold]  {escape(known.title)}")
        lines = {
            "recordings": f"{known.recordings:,}, about {known.size_bytes / 1e9:.1f} GB",
            "subjects": known.subjects,
            "labels": known.labels,
            "licence": known.licence,
            "from": known.page,
            "fetched": fetched(known, root),
            "use": _usage(known, root),
        }
        for name, text in lines.items():
            console.print(f"{name:<12}{escape(text)}")
        console.print()
    console.print(f"Fetch one with: heartbeat data fetch NAME --to {escape(shlex.quote(str(root)))}")


def fetched(known: DataSet, root: Path) -> str:
    """How much of a data set is below ``root``: yes, no, or how many of its files (their content is not read)."""
    folder = known.folder(root)
    if known.kaggle:
        return "yes" if all((folder / name).exists() for name in KAGGLE_FILES) else "no"
    try:
        sums = parse_sums((folder / SUMS).read_text(encoding="utf-8"), SUMS)
        wanted = chosen(sums, known.parts, SUMS, known.beside)
    except (OSError, UnicodeDecodeError, FetchError):
        return "no"
    present = sum((folder / name).is_file() for name in wanted)
    return "yes" if present == len(wanted) else f"{present:,} of {len(wanted):,} files"


def fetch_set(name: str, root: Path, only: Sequence[str] = (), base_url: str | None = None) -> None:
    """Fetch what is missing of a data set into the folder of its name below ``root``. Raises `HeartbeatError`."""
    if name not in DATA_SETS:
        raise HeartbeatError(f"there is no data set {name!r}: choose one of {', '.join(DATA_SETS)}")
    known, console = DATA_SETS[name], plain_console()
    if known.kaggle and (only or base_url):
        raise HeartbeatError(f"{name} is one archive at Kaggle: leave out --only and --base-url")
    console.print(f"{escape(known.title)}, licence {known.licence}: {known.page}")
    root = expanded(root).resolve()
    if known.kaggle:
        result = fetch_from_kaggle(known, root)
    else:
        base_url = base_url or os.environ.get("HEARTBEAT_PHYSIONET_URL") or PHYSIONET_URL
        with bar(console, "fetching") as advance:
            result = fetch_from_physionet(known, root, only, base_url, advance)
    console.print(escape(result))
    console.print(f"Use it with: {escape(_usage(known, root))}")


def fetch_from_physionet(
    known: DataSet, root: Path, only: Sequence[str], base_url: str, advance: Callable[[int, int, str], None]
) -> str:
    """Fetch the files of a PhysioNet version that are missing or damaged; returns a sentence. Raises `HeartbeatError`."""
    base, folder = f"{base_url.rstrip('/')}/{known.version}", known.folder(root)
    url = f"{base}/{SUMS}"
    sums_text = fetch_text(url)
    sums = parse_sums(sums_text, url)
    wanted = chosen(sums, only or known.parts, url, known.beside)
    missing = missing_files(folder, wanted)
    n_default = sum(Path(name).parts[0] in known.parts for name in sums)
    check_space(folder, known.size_bytes * len(missing) / max(n_default, 1))
    try:
        with atomic_write(folder / SUMS) as file:
            file.write(sums_text.encode())
    except OSError as error:
        raise HeartbeatError(f"cannot write to {folder} ({error.strerror}): choose another folder with --to") from error
    present = len(wanted) - len(missing)
    fetch_files(
        base, folder, missing,
        lambda done, _, received: advance(present + done, len(wanted), f"{received / 1e6:.1f} MB"),
    )  # fmt: skip
    return f"{len(missing):,} files fetched, {present:,} already present; all match the publisher's checksums"


def check_space(folder: Path, needed_bytes: float) -> None:
    """Raise `HeartbeatError` when ``folder``, which may not exist yet, has no room for ``needed_bytes``."""
    if (free := free_bytes(folder)) < needed_bytes:
        raise HeartbeatError(
            f"about {needed_bytes / 1e9:.1f} GB are needed and {existing(folder)} has {free / 1e9:.1f} GB free: make "
            "room, or choose another folder with --to"
        )


def fetch_from_kaggle(known: DataSet, root: Path) -> str:
    """Fetch and unpack an archive with Kaggle's own client; returns a sentence. Raises `HeartbeatError`."""
    folder, unfinished = known.folder(root), root / f".{known.name}.part"
    if fetched(known, root) == "yes":
        return f"Already in {folder}; nothing was fetched"
    by_hand = f"download it from {known.page} and pass the zip with --source {known.name} --data ZIP"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HeartbeatError(f"{folder} holds something else: move it away, or choose another folder with --to")
    client = shutil.which("kaggle")
    if client is None:
        raise HeartbeatError(
            f"{known.name} is at Kaggle, whose client is not installed: pip install kaggle and set up its API token, "
            f"or {by_hand}"
        )
    unfinished.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([client, "datasets", "download", "-d", known.kaggle, "-p", str(unfinished)], check=False)
    archive = unfinished / f"{known.kaggle.partition('/')[2]}.zip"
    if done.returncode or not archive.is_file():
        raise HeartbeatError(
            f"Kaggle's client could not fetch {known.kaggle} (its message is above): set up its API token and run "
            f"again, or {by_hand}"
        )
    try:
        content = unpack(archive, unfinished, limit_bytes=20 * known.size_bytes)
    except HeartbeatError:
        archive.unlink()  # or Kaggle's client would skip the download next time
        raise
    content.replace(folder)  # replaces an empty folder of that name
    shutil.rmtree(unfinished)
    return f"Fetched and unpacked into {folder}"


def _usage(known: DataSet, root: Path) -> str:
    return shlex.join(["heartbeat", "run", "--source", known.name, "--data", str(known.folder(root))])
