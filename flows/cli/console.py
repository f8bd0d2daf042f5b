"""What commands show in the terminal: notes, tables, progress bars, and the summary of a run."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from textwrap import shorten
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from heartdata.errors import CONTROLS
from heartdata.reports.labels import broken, pieces
from heartdata.scoring.model_names import NETWORK
from heartdata.scoring.text import metric_label, with_bounds

if TYPE_CHECKING:
    from tasks.summary import Summary  # loads Prefect

LINE_EVERY_S = 10.0  # where the output is no terminal
QUARANTINED_SHOWN = 10
NOTES_SHOWN, STAGES_SHOWN = 3, 5  # in the summary of a run
SCREEN, NARROW_SCREEN, WIDE = 24, 28, 100  # lines of the summary in a terminal of WIDE columns, and of fewer
MARGIN = 12  # columns of the names in the summary
OTHER_REASONS = "for other reasons"
SCORES_SHOWN = ("macro_f1", "auroc")
LONG_WORD = 20  # longer names may be broken in tables


def plain_console() -> Console:
    """A console that shows text as it is: long lines whole, so that paths can be copied; no highlights, no emoji."""
    return _PlainConsole(highlight=False, soft_wrap=True, emoji=False)


class _PlainConsole(Console):
    """Shows control characters of names and labels as such: a terminal would obey them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(CONTROLS), segment.style)


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
    """A text that is broken between words, and a long name where `heartdata.reports.labels` breaks it."""

    def __init__(self, value: object) -> None:
        self.text = "yes" if value is True else "NO" if value is False else str(value)
        words = self.text.split(" ")
        parts = [part for word in words for part in (pieces(word) if cell_len(word) > LONG_WORD else [word])]
        self.narrowest, self.widest = max(map(cell_len, parts)), cell_len(self.text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = broken(self.text, options.max_width, cell_len)
        yield Text("\n".join(part for line in lines for part in chop_cells(line, options.max_width) or [""]))


@dataclass(frozen=True)
class RichTable:
    """A table of rows that share their keys; where it is wider than the terminal, several tables below one another.

    Each has the first column.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    apart: bool = True  # by an empty line above and below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = {name: [Cell(name), *(Cell(row[name]) for row in self.rows)] for name in (self.rows or [{}])[0]}
        narrowest = {name: max(cell.narrowest for cell in cells) for name, cells in columns.items()}
        first, *others = columns or [""]
        blocks = [[first]]
        for name in others:
            wider = [*blocks[-1], name]
            if len(wider) > 2 and sum(narrowest[n] for n in wider) > options.max_width - 2 * len(wider):
                blocks.append([first])
            blocks[-1].append(name)
        for number, block in enumerate(blocks):
            title = "" if number else self.title
            yield self._table(title, {name: columns[name] for name in block if name in columns}, options.max_width)

    def _table(self, title: str, columns: Mapping[str, Sequence[Cell]], width: int) -> Table:
        """Columns of numbers are right-aligned; all are as wide as their content, or else the widest are narrowed."""
        table = Table(
            title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
            padding=(0, 1, 0, 0), show_edge=self.apart,
        )  # fmt: skip
        for name, cells in columns.items():
            values = [row[name] for row in self.rows]
            is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            table.add_column(cells[0], justify="right" if is_number else "left")
        sizes = [(max(c.narrowest for c in cells), max(c.widest for c in cells)) for cells in columns.values()]
        for level in range(width, 0, -1):
            widths = [min(most, max(least, level)) for least, most in sizes]
            if sum(widths) <= width - 2 * len(sizes):
                for column, size in zip(table.columns, widths, strict=True):
                    column.width = size
                break
        for cells in zip(*(cells[1:] for cells in columns.values()), strict=True):
            table.add_row(*cells)
        return table


def rich_table(title: str, rows: Sequence[Mapping[str, Any]]) -> RichTable:
    """``rows`` for `Console.print`."""
    return RichTable(title, rows)


def quarantine_table(rows: Sequence[Mapping[str, Any]]) -> RichTable:
    """The first of the recordings that were refused."""
    shown = f" (first {QUARANTINED_SHOWN})" if len(rows) > QUARANTINED_SHOWN else ""
    return rich_table(f"Quarantined: {len(rows)}{shown}", rows[:QUARANTINED_SHOWN])


def show(summary: "Summary", console: Console, links: Mapping[str, str], said: Collection[str] = ()) -> None:
    """Print a finished run, then ``links``: what to open next, by name; notes in ``said`` not again.

    On one screen, if the output is a terminal: some notes may be shortened.
    """
    notes = [text for text in summary.notes if text not in said]
    shown = [note(text) for text in notes]
    if console.is_terminal:
        with console.capture() as body:
            _show_results(summary, console, links)
        screen = SCREEN if console.width >= WIDE else NARROW_SCREEN
        room = screen - _height(body.get(), console)
        if len(notes) > NOTES_SHOWN or sum(_height(Text.from_markup(text).plain, console) for text in shown) > room:
            shown = _shortened(notes, f"{summary.latest}/summary.md", console, room)
    for text in shown:
        console.print(text)
    _show_results(summary, console, links)


def _shortened(notes: Sequence[str], page: str, console: Console, room: int) -> list[str]:
    """The beginnings of the first notes, and that all are in ``page``: ``room`` lines in all, as far as possible."""
    rest = f"     all {len(notes)} notes are in {page}"
    count = min(len(notes), NOTES_SHOWN, max(0, room - _height(rest, console)))
    width = console.width - len("note ")
    return [*(note(shorten(text, width, placeholder=" …")) for text in notes[:count]), escape(rest)]


def _height(text: str, console: Console) -> int:
    """The lines that a text takes in the terminal."""
    lines = Text.from_ansi(text).plain.splitlines()
    return sum(max(1, -(-cell_len(line.rstrip()) // console.width)) for line in lines)


def _show_results(summary: "Summary", console: Console, links: Mapping[str, str]) -> None:
    console.print(f"[bold]{escape(summary.headline)}[/bold]", soft_wrap=True)
    counts = summary.recordings[-1] if summary.recordings else {}
    parts = summary.subjects[-1] if summary.subjects else {}
    console.print(_scores(summary))
    lines = {
        "Recordings": ", ".join(f"{n} {name}" for name, n in counts.items() if name != "label"),
        "Subjects": ", ".join(f"{n} {name}" for name, n in parts.items() if name != "label"),
        "Quarantine": _quarantine(summary, 2 * console.width - MARGIN),
        "Seconds": _seconds(summary.seconds, console.width - MARGIN),
        "Report": summary.report,
        "Data Docs": summary.data_docs,
        **links,
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:<{MARGIN - 1}} {escape(text)}", soft_wrap=True)


def show_nothing_new(summary: "Summary", console: Console) -> None:
    """Print a run that neither registered nor decided anything in a few lines."""
    scores = [
        f"{metric_label(score['metric'])} {with_bounds(score['value'], score['low'], score['high'])}"
        for score in summary.scores
        if score["model"] == NETWORK and score["metric"] in SCORES_SHOWN
    ]
    lines = {"Scores": ", ".join(scores), "Report": summary.report, "Files": summary.latest}
    console.print(f"[bold]{escape(summary.headline)}[/bold]", soft_wrap=True)
    for name, text in lines.items():
        console.print(f"{name:<11} {escape(text)}", soft_wrap=True)


def _scores(summary: "Summary") -> RichTable:
    """A row a model."""
    rows = {row["model"]: {"held-out subjects": row["model"]} for row in summary.scores}
    for score in summary.scores:
        if score["metric"] in SCORES_SHOWN:
            value = with_bounds(score["value"], score["low"], score["high"])
            rows[score["model"]][metric_label(score["metric"])] = value
    return RichTable("", list(rows.values()), apart=False)


def _quarantine(summary: "Summary", room: int) -> str:
    """The reasons in ``room`` characters, what people excluded first and then the commonest; of synthetic recordings also
    how many planted faults were caught.
    """
    checks = Counter(row["check"].replace("_", " ") for row in summary.quarantine)
    reasons = sorted(checks.most_common(), key=lambda reason: reason[0] != "excluded")
    end = ""
    if summary.planted:
        missed = [row["fault"].replace("_", " ") for row in summary.planted if not row["caught"]]
        end = f"; {len(summary.planted) - len(missed)} of {len(summary.planted)} planted faults caught"
        end += f", not {', '.join(missed)}" if missed else ""
    texts = [f"{count} {check}" for check, count in reasons]
    shown = _that_fit(texts, ", ", room - len(end) - len(OTHER_REASONS))
    others = sum(count for _, count in reasons[len(shown) :])
    return ", ".join([*shown, *([f"{others} {OTHER_REASONS}"] if others else [])]) + end


def _seconds(seconds: Mapping[str, float], room: int) -> str:
    """All together, and the slowest stages, in ``room`` characters."""
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:STAGES_SHOWN]
    texts = [f"{sum(seconds.values()):.1f}", *(f"{stage} {value:.1f}" for stage, value in slowest)]
    return " · ".join(_that_fit(texts, " · ", room))


def _that_fit(texts: Sequence[str], between: str, room: int) -> list[str]:
    """The first of ``texts``, one at least, that fit into ``room`` characters."""
    ends = accumulate(len(between) + len(text) for text in texts)
    return [text for number, (text, end) in enumerate(zip(texts, ends, strict=True)) if not number or end <= room]
