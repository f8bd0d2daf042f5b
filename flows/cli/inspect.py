"""`heartbeat data inspect`: measure recordings and draw some of each class, without training."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from flows.cli.console import bar, note, plain_console, quarantine_table, rich_table
from flows.cli.exit_codes import ExitCode
from flows.cli.outputs import expanded
from flows.local.environment import writable_caches
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.storage.csv_text import csv_text
from heartdata.storage.store import atomic_write, mark_output

if TYPE_CHECKING:
    from heartdata.config import RunConfig

CLASSES_DRAWN = 20
QUARANTINE = "quarantine.csv"


def inspect_source(config: "RunConfig", out: Path, per_class: int, seed: int) -> None:
    """Show what each class of a source holds, and draw ``per_class`` recordings of each. Raises `HeartbeatError`."""
    check_source(config.source)
    writable_caches()
    console = plain_console()
    with console.status("loading"):
        from heartdata.audio.measurements import measure_files
        from heartdata.checks.validation import validate
        from heartdata.checks.waveforms import near_duplicate_pairs
        from heartdata.dataset.inventory import take_inventory
        from heartdata.reports.inspect import (
            by_class,
            examples,
            quarantined_by_class,
            unreadable,
            with_facts,
        )
        from heartdata.reports.inspect_plots import write_plots
        from heartdata.reports.summary import check_warnings
    out = expanded(out).resolve()
    docs = out / "data-docs"
    try:
        mark_output(out)
        with bar(console, "reading") as advance:
            recordings, notes = take_inventory(config.source, out / "made", advance)
        with bar(console, "measuring") as advance:
            facts = measure_files(recordings, config.measure, advance)
        for text in notes:
            console.print(note(text))
        frame = with_facts(recordings, facts)
        console.print(rich_table("Recordings", by_class(frame)))
        with bar(console, "comparing") as advance:
            pairs = near_duplicate_pairs(recordings, facts, config.validation, config.measure, advance)
        with console.status("checking"):
            validation = validate(recordings, facts, config.validation, docs, config.split.collections, pairs=pairs)
        warned = check_warnings(validation.checks.to_pandas(), validation.accepted.to_pandas())
        for text in [*warned, *validation.notes]:
            console.print(note(text))
        refused = validation.quarantine.to_pandas()
        if len(refused):
            console.print(rich_table("Quarantined", quarantined_by_class(frame, refused)))
            console.print(quarantine_table(refused[["recording_id", "check", "reason"]].to_dict("records")))
        table = refused.merge(frame[["recording_id", "uri"]].rename(columns={"uri": "path"}), on="recording_id")
        with atomic_write(out / QUARANTINE) as file:
            file.write(csv_text(table[["recording_id", "path", "label", "check", "reason"]]).encode())
        if none_readable := unreadable(frame):
            raise HeartbeatError(none_readable)
        if validation.refusal:
            console.print(note(f"`heartbeat run` would refuse these: {validation.refusal}"))
        chosen = dict(list(examples(frame, per_class, seed).items())[:CLASSES_DRAWN])
        with console.status("drawing"):
            plots = write_plots(frame, chosen, config.spectrogram, out)
    except OSError as error:
        raise HeartbeatError(f"reading or writing failed ({error}): fix that and run again") from error
    for path in (*plots, out / QUARANTINE, docs / "index.html"):
        console.print(escape(str(path)))
    if validation.refusal:
        raise typer.Exit(ExitCode.DATA_REFUSED)
