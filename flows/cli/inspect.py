"""`heartbeat data inspect`: measure recordings and draw some of each class, without training."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from flows.cli.console import bar, note, plain_console, rich_table
from flows.cli.outputs import expanded
from flows.local.environment import writable_caches
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source

if TYPE_CHECKING:
    from heartdata.config import RunConfig

CLASSES_DRAWN = 20


def inspect_source(config: "RunConfig", out: Path, per_class: int, seed: int) -> None:
    """Show what each class of a source holds, and draw ``per_class`` recordings of each. Raises `HeartbeatError`."""
    check_source(config.source)
    writable_caches()
    console = plain_console()
    with console.status("loading"):
        from heartdata.dataset.inventory import take_inventory
        from heartdata.reports.inspect import HINTS, by_class, examples, few_classes, measured, unreadable
        from heartdata.reports.inspect_plots import write_plots
    out = expanded(out).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with bar(console, "reading") as advance:
            recordings, notes = take_inventory(config.source, out / "made", advance)
        with bar(console, "measuring") as advance:
            frame = measured(recordings.to_pandas(), config.measure, advance)
        for text in notes:
            console.print(note(text))
        rows = by_class(frame, config.validation)
        console.print(rich_table("Recordings", [{k: v for k, v in row.items() if k not in HINTS} for row in rows]))
        console.print(rich_table("Unfit for training", [{k: row[k] for k in ("label", *HINTS)} for row in rows]))
        if none_readable := unreadable(frame):
            raise HeartbeatError(none_readable)
        if one_class := few_classes(frame):
            console.print(note(one_class))
        chosen = dict(list(examples(frame, per_class, seed).items())[:CLASSES_DRAWN])
        with console.status("drawing"):
            paths = write_plots(frame, chosen, config.spectrogram, out)
    except OSError as error:
        raise HeartbeatError(f"reading or writing failed ({error}): fix that and run again") from error
    for path in paths:
        console.print(escape(str(path)))
