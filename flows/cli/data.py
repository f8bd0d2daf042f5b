"""`heartbeat data`: what public data sets there are, fetching them, and a quick look at recordings."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.cli.outputs import expanded
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.sources.catalogue import DATA_SETS, PHYSIONET_URL, SUMS, DataSet

if TYPE_CHECKING:
    from heartdata.config import RunConfig

LINE_EVERY_S = 10.0  # where the output is no terminal
SHEETS = 20  # classes that are drawn at most

Advance = Callable[[int, int, str], None]  # done, total, detail


def list_sets(root: Path) -> None:
    """Show the known data sets, and which of them lie below ``root``."""
    console = _console()
    for known in DATA_SETS.values():
        console.print(f"[bold]{known.name}[/bold]  {escape(known.title)}")
        rows = {
            "recordings": f"{known.recordings:,}, about {known.size_bytes / 1e9:.1f} GB",
            "subjects": known.subjects,
            "labels": known.labels,
            "licence": known.licence,
            "from": known.page,
            "fetched": fetched(known, root),
            "use": _usage(known, root),
        }
        console.print(table_of("", [{"": key, " ": value} for key, value in rows.items()], head=False))
        console.print()
    console.print(f"Fetch one with: heartbeat data fetch NAME --to {escape(shlex.quote(str(root)))}")


def fetched(known: DataSet, root: Path) -> str:
    """How much of a data set lies below ``root``: yes, no, or how many of its files (their content is not read)."""
    from heartdata.sources.download import FetchError, chosen, parse_sums

    folder = known.folder(root)
    if known.kaggle:
        return "yes" if all((folder / name).exists() for name in ("set_a.csv", "set_b.csv", "set_a", "set_b")) else "no"
    try:
        sums = parse_sums((folder / SUMS).read_text(encoding="utf-8"), SUMS)
        wanted = chosen(sums, known.parts, SUMS, known.beside)
    except (OSError, UnicodeDecodeError, FetchError):
        return "no"
    present = sum((folder / name).is_file() for name in wanted)
    return "yes" if present == len(wanted) else f"{present:,} of {len(wanted):,} files"


def fetch_set(name: str, root: Path, only: Sequence[str] = (), base_url: str | None = None) -> None:
    """Fetch what is missing of the data set ``name`` into a folder of its name below ``root``. Raises `HeartbeatError`."""
    if name not in DATA_SETS:
        raise HeartbeatError(f"there is no data set {name!r}: choose one of {', '.join(DATA_SETS)}")
    known, console = DATA_SETS[name], _console()
    if known.kaggle and (only or base_url):
        raise HeartbeatError(f"{name} comes as one archive from Kaggle: leave --only and --base-url out")
    console.print(f"{escape(known.title)}, licence {known.licence}: {known.page}")
    root = expanded(root).resolve()
    if known.kaggle:
        said = fetch_from_kaggle(known, root)
    else:
        with bar(console, "fetching") as advance:
            base_url = base_url or os.environ.get("HEARTBEAT_PHYSIONET_URL") or PHYSIONET_URL
            said = fetch_from_physionet(known, root, only, base_url, advance)
    console.print(escape(said))
    console.print(f"Use it with: {escape(_usage(known, root))}")


def fetch_from_physionet(known: DataSet, root: Path, only: Sequence[str], base_url: str, advance: Advance) -> str:
    """Fetch the files of a PhysioNet version that are missing or wrong; says what was done. Raises `HeartbeatError`."""
    from heartdata.sources.download import chosen, fetch_files, fetch_text, missing_files, parse_sums
    from heartdata.storage.store import atomic_write

    base, folder = f"{base_url.rstrip('/')}/{known.version}", known.folder(root)
    url = f"{base}/{SUMS}"
    listed = fetch_text(url)
    sums = parse_sums(listed, url)
    wanted = chosen(sums, only or known.parts, url, known.beside)
    missing = missing_files(folder, wanted)
    whole = sum(Path(name).parts[0] in known.parts for name in sums)
    check_space(folder, known.size_bytes * len(missing) / max(whole, 1))
    try:
        with atomic_write(folder / SUMS) as file:
            file.write(listed.encode())
    except OSError as error:
        raise HeartbeatError(f"cannot write to {folder} ({error.strerror}): choose another folder with --to") from error
    present = len(wanted) - len(missing)
    fetch_files(
        base, folder, missing,
        lambda done, _, received: advance(present + done, len(wanted), f"{received / 1e6:.1f} MB"),
    )  # fmt: skip
    return f"{len(missing):,} files fetched, {present:,} were there already; all have their publisher's checksum"


def check_space(folder: Path, needed_bytes: float) -> None:
    """Raise `HeartbeatError` when ``folder`` (which need not be there yet) lacks room for ``needed_bytes``."""
    present = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(present).free
    if free < needed_bytes:
        raise HeartbeatError(
            f"about {needed_bytes / 1e9:.1f} GB are needed and {present} has {free / 1e9:.1f} GB free: make room, or "
            "choose another folder with --to"
        )


def fetch_from_kaggle(known: DataSet, root: Path) -> str:
    """Fetch and unpack an archive by Kaggle's own client; says what was done. Raises `HeartbeatError`."""
    folder, unfinished = known.folder(root), root / f".{known.name}.part"
    if fetched(known, root) == "yes":
        return f"It lies in {folder} already; nothing was fetched"
    by_hand = f"download it from {known.page} and give the zip with --source {known.name} --data ZIP"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HeartbeatError(f"{folder} holds something else: move it away, or choose another folder with --to")
    client = shutil.which("kaggle")
    if client is None:
        raise HeartbeatError(
            f"{known.name} lies at Kaggle, whose client is not installed: pip install kaggle and set up its API token, "
            f"or {by_hand}"
        )
    unfinished.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run([client, "datasets", "download", "-d", known.kaggle, "-p", str(unfinished)], check=False)
    archive = unfinished / f"{known.kaggle.partition('/')[2]}.zip"
    if ended.returncode or not archive.is_file():
        raise HeartbeatError(
            f"Kaggle's client could not fetch {known.kaggle} (it says why above): set up its API token and run again, "
            f"or {by_hand}"
        )
    return _unpacked(known, archive, folder, unfinished)


def _unpacked(known: DataSet, archive: Path, folder: Path, unfinished: Path) -> str:
    from heartdata.sources.archives import unpack

    try:
        content = unpack(archive, unfinished, limit_bytes=20 * known.size_bytes)
    except HeartbeatError:
        archive.unlink()  # else Kaggle's client would take it for fetched
        raise
    content.replace(folder)  # an empty folder of that name gives way
    shutil.rmtree(unfinished)
    return f"Fetched and unpacked into {folder}"


def inspect_source(config: "RunConfig", out: Path, each: int, seed: int) -> None:
    """Measure the recordings of a source, show what each class holds, and draw a few. Raises `HeartbeatError`."""
    check_source(config.source)
    console = _console()
    with console.status("loading"):
        from heartdata.dataset.inventory import take_inventory
        from heartdata.reports.inspect import HINTS, by_class, examples, measured
        from heartdata.reports.inspect_plots import write_plots
    out = expanded(out).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with bar(console, "reading") as advance:
            table, notes = take_inventory(config.source, out / "made", lambda done, total: advance(done, total, ""))
        with bar(console, "measuring") as advance:
            frame = measured(table.to_pandas(), config.measure, lambda done, total: advance(done, total, ""))
        for note in notes:
            console.print(f"[yellow]note[/yellow] {escape(note)}")
        rows = by_class(frame, config.validation)
        console.print(table_of("Recordings", [{k: v for k, v in row.items() if k not in HINTS} for row in rows]))
        console.print(table_of("Unfit for training", [{k: row[k] for k in ("label", *HINTS)} for row in rows]))
        chosen = dict(list(examples(frame, each, seed).items())[:SHEETS])
        with console.status("drawing"):
            paths = write_plots(frame, chosen, config.spectrogram, out)
    except OSError as error:
        raise HeartbeatError(f"reading or writing failed ({error}): mend that and run again") from error
    for path in paths:
        console.print(escape(str(path)))


def _usage(known: DataSet, root: Path) -> str:
    return shlex.join(["heartbeat", "run", "--source", known.name, "--data", str(known.folder(root))])


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, emoji=False)


@contextmanager
def bar(console: Console, what: str) -> Iterator[Advance]:
    """A bar; a line now and then where the output is no terminal."""
    columns = (TextColumn("  {task.description:<10}"), BarColumn(bar_width=30), MofNCompleteColumn())
    told_s = monotonic()
    with Progress(
        *columns, TimeElapsedColumn(), TextColumn("{task.fields[detail]}"), console=console, transient=True
    ) as bars:
        shown = bars.add_task(what, total=None, detail="")

        def advance(done: int, total: int, detail: str) -> None:
            nonlocal told_s
            bars.update(shown, completed=done, total=total, detail=detail)
            if not console.is_terminal and monotonic() - told_s > LINE_EVERY_S:
                told_s = monotonic()
                console.print(f"    {what} {done}/{total}  {detail}")

        yield advance


def table_of(title: str, rows: Sequence[dict[str, Any]], head: bool = True) -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD if head else None,
        show_header=head, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in rows[0]:
        number = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(escape(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table
