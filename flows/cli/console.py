"""What a run shows in the terminal: a bar for the stage at work, a line for each that ended, tables at the end."""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.summary import Summary

LINE_EVERY_S = 10.0  # where the output is no terminal


class Terminal:
    """A `tasks.engine.progress.Display` drawn with rich; plain lines where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars: dict[str, TaskID] = {}
        self.told_s = monotonic()
        self.progress = Progress(
            TextColumn("  {task.description:<14}"),
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
        """A line above the bars."""
        self.progress.console.print(text, highlight=False)

    def started(self, stage: str, total: int, unit: str) -> None:
        self.bars[stage] = self.progress.add_task(stage, total=total, detail="")

    def advanced(self, stage: str, done: int, total: int, detail: str) -> None:
        self.progress.update(self.bars[stage], completed=done, total=total, detail=escape(detail))
        if not self.console.is_terminal and done < total and monotonic() - self.told_s > LINE_EVERY_S:
            self.told_s = monotonic()
            self.say(f"    {stage} {done}/{total}  {escape(detail)}".rstrip())

    def finished(self, stage: str, seconds: float | None, detail: str) -> None:
        if stage in self.bars:
            self.progress.remove_task(self.bars.pop(stage))
        took = "unchanged" if seconds is None else f"{seconds:6.1f} s"
        self.say(f"  [green]✓[/green] {stage:<14} {took:>9}  {escape(detail)}")

    def remarked(self, text: str) -> None:
        self.say(note(text))


def note(text: str) -> str:
    """A remark as rich markup."""
    return f"[yellow]note[/yellow] {escape(text)}"


def show(summary: Summary, console: Console, where_to_look: Mapping[str, str]) -> None:
    """The tables of a finished run, and ``where_to_look`` further."""
    for text in summary.notes:
        console.print(note(text), highlight=False)
    console.print(table("Recordings", summary.recordings))
    console.print(table("Parts", summary.subjects))
    console.print(table("Scores on held-out subjects (95 % interval)", summary.score_rows()))
    console.print(table("Each class (resnet34)", summary.per_class))
    if summary.planted:
        caught = sum(row["caught"] for row in summary.planted)
        console.print(table(f"Planted faults: {caught} of {len(summary.planted)} caught", summary.planted))
    elif summary.quarantine:
        shown = " (first 10)" if len(summary.quarantine) > 10 else ""
        console.print(table(f"Quarantined: {len(summary.quarantine)}{shown}", summary.quarantine[:10]))
    seconds = " · ".join(f"{stage} {value:.1f}" for stage, value in summary.seconds.items())
    console.print(f"Seconds     {seconds}", highlight=False)
    console.print(f"Data set    {summary.dataset_version[:12]}", highlight=False)
    console.print(f"Model       {escape(summary.model)} version {summary.model_version} (challenger)", highlight=False)
    console.print(f"Files       {escape(summary.latest)}", highlight=False, soft_wrap=True)
    console.print(f"Data Docs   open {escape(summary.data_docs)}", highlight=False, soft_wrap=True)
    for name, text in where_to_look.items():
        console.print(f"{name:<12}{escape(text)}", highlight=False, soft_wrap=True)


def table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in rows[0] if rows else ():
        number = isinstance(rows[0][name], int) and not isinstance(rows[0][name], bool)
        table.add_column(escape(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        table.add_row(*("yes" if v is True else "NO" if v is False else escape(str(v)) for v in row.values()))
    return table
