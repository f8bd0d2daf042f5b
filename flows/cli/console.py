"""What commands show in the terminal: notes, tables, progress bars, and the summary of a run."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from heartdata.scoring.model_names import NETWORK

if TYPE_CHECKING:
    from tasks.summary import Summary  # loads Prefect

LINE_EVERY_S = 10.0  # where the output is no terminal
QUARANTINED_SHOWN = 10


def plain_console() -> Console:
    """A console that shows text as it is: long lines whole, so that paths can be copied; no highlights, no emoji."""
    return Console(highlight=False, soft_wrap=True, emoji=False)


class Terminal:
    """A `tasks.engine.progress.Display` drawn with rich; plain lines where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.notes: set[str] = set()  # those shown
        self.bars: dict[str, TaskID] = {}
        self.last_line_s = monotonic()
        self.progress = Progress(
            TextColumn("  {task.description:<16}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> "Terminal":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, highlight=False)

    def started(self, stage: str, total: int | None, unit: str) -> None:
        self.bars[stage] = self.progress.add_task(stage, total=total, detail="")

    def advanced(self, stage: str, done: int, total: int, detail: str) -> None:
        self.progress.update(self.bars[stage], completed=done, total=total, detail=escape(detail))
        if not self.console.is_terminal and done < total and monotonic() - self.last_line_s > LINE_EVERY_S:
            self.last_line_s = monotonic()
            self.say(f"    {stage} {done}/{total}  {escape(detail)}".rstrip())

    def finished(self, stage: str, seconds: float | None, detail: str) -> None:
        if stage in self.bars:
            self.progress.remove_task(self.bars.pop(stage))
        duration = "unchanged" if seconds is None else f"{seconds:6.1f} s"
        self.say(f"  [green]✓[/green] {stage:<16} {duration:>9}  {escape(detail)}")

    def remarked(self, text: str) -> None:
        self.notes.add(text)
        self.say(note(text))


@contextmanager
def bar(console: Console, work: str) -> Iterator[Callable[..., None]]:
    """A progress bar; yields ``advance(done, total, detail="")``."""
    with Terminal(console) as terminal:
        terminal.started(work, None, "")
        yield lambda done, total, detail="": terminal.advanced(work, done, total, detail)


def note(text: str) -> str:
    """A note as rich markup."""
    return f"[yellow]note[/yellow] {escape(text)}"


class Cell:
    """A text that is broken between words, and a name longer than a line after / _ - or a dot."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(cell_len(piece) for word in self.text.split(" ") for piece in _pieces(word))
        return Measurement(longest, cell_len(self.text)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for number, word in enumerate(self.text.split(" ")):
            space = " " if number else ""
            for piece in [word] if cell_len(word) <= options.max_width else _pieces(word):
                if cell_len(lines[-1] + space + piece) <= options.max_width:
                    lines[-1] += space + piece
                else:
                    parts = chop_cells(piece, options.max_width)
                    lines = [*lines, *parts] if lines[-1] else parts
                space = ""
        yield Text("\n".join(lines))


def _pieces(word: str) -> list[str]:
    return re.split(r"(?<=[/\\_-])|(?<=\.)(?!\d)", word)


def rich_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows that share their keys as a table; columns of numbers are right-aligned."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in rows[0] if rows else ():
        is_number = all(isinstance(row[name], int | float) and not isinstance(row[name], bool) for row in rows)
        table.add_column(escape(name), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in rows:
        table.add_row(*("yes" if v is True else "NO" if v is False else Cell(str(v)) for v in row.values()))
    return table


def show(summary: "Summary", console: Console, links: Mapping[str, str], said: Collection[str] = ()) -> None:
    """Print the tables of a finished run, then ``links``: what to open next, by name; notes in ``said`` not again."""
    for text in summary.notes:
        if text not in said:
            console.print(note(text))
    console.print(rich_table("Recordings", summary.recordings))
    console.print(rich_table("Splits", summary.subjects))
    console.print(rich_table("Scores on held-out subjects (95 % interval)", summary.score_rows()))
    console.print(rich_table(f"Scores by class ({NETWORK})", summary.per_class))
    if summary.planted:
        caught = sum(row["caught"] for row in summary.planted)
        console.print(rich_table(f"Planted faults: {caught} of {len(summary.planted)} caught", summary.planted))
    elif summary.quarantine:
        shown = f" (first {QUARANTINED_SHOWN})" if len(summary.quarantine) > QUARANTINED_SHOWN else ""
        title = f"Quarantined: {len(summary.quarantine)}{shown}"
        console.print(rich_table(title, summary.quarantine[:QUARANTINED_SHOWN]))
    lines = {
        "Seconds": " · ".join(f"{stage} {value:.1f}" for stage, value in summary.seconds.items()),
        "Data set": summary.dataset_version[:12],
        "Model": f"{summary.model} version {summary.model_version} (challenger)",
        "Files": summary.latest,
        "Data Docs": f"open {summary.data_docs}",
        **links,
    }
    for name, text in lines.items():
        console.print(f"{name:<11} {escape(text)}", soft_wrap=True)
