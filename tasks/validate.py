"""The Great Expectations suite; quarantine with reasons, Data Docs, and a refusal when the table is unfit."""

from contextlib import suppress

import pyarrow as pa
from pydantic import ValidationError

from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate as run_suite
from heartdata.config import RegistryConfig
from heartdata.errors import DataRefused, StoreError
from heartdata.settings import sha256_json
from heartdata.sources import Source
from heartdata.storage.csv_text import csv_text
from heartdata.storage.schemas import ACCEPTED, CHECKS, CONFIRMED_PAIRS, FACTS, QUARANTINE, RECORDINGS, VERDICTS
from heartdata.storage.store import Artifact, Store, atomic_write
from tasks.engine.progress import add_note, track
from tasks.engine.stage import files_intact, fingerprint, stage, uncached_task
from tasks.engine.versions import STAGES
from tasks.registry.previous import accepted_for_champion
from tasks.results import AcceptedRecord, PreviouslyAccepted, ValidationResult

VERDICTS_FOLDER = f"verdicts/v{STAGES['validate'].version}"
UNREADABLE = (
    "cannot be read (written by another version of heartbeat, missing or damaged): this run's recordings are compared "
    "with none accepted before, and those of later runs with this run's"
)


def _valid(result: ValidationResult, store: Store) -> bool:
    return files_intact(result, store) and (store.workpath(result.data_docs) / "index.html").is_file()


@stage("validate", valid=_valid)
def validate(
    recordings: Artifact, facts: Artifact, pairs: Artifact | None, config: ValidationConfig,
    collections: tuple[str, ...] | None, previous: PreviouslyAccepted, store: Store,
) -> ValidationResult:  # fmt: skip
    """Sort every recording into accepted or quarantine. A failed check of the whole table becomes the ``refusal``.

    ``pairs``: near-duplicates (schema CONFIRMED_PAIRS), or None. ``collections``: those that will be trained on, or None for all.
    """
    from heartdata.reports.plots import plot_drift

    with track("validate", unit="recordings") as advance:
        inputs = _digest(recordings, facts, config, collections)
        docs = f"data-docs/{sha256_json(fingerprint([STAGES['validate'].version, inputs, pairs, previous]))[:20]}"
        listed, measured = store.read_table(recordings, RECORDINGS), store.read_table(facts, FACTS)
        near = store.read_frame(pairs, CONFIRMED_PAIRS) if pairs else None
        last = store.read_table(previous.last, ACCEPTED) if previous.last else None
        pinned = previous.reference if previous.reference != previous.last else None  # one comparison if both are one
        reference = store.read_table(pinned, ACCEPTED) if pinned else None
        known = store.read_table(previous.verdicts, VERDICTS) if previous.verdicts else None
        result = run_suite(
            listed, measured, config, store.workpath(docs), collections, last, reference, plot_drift, known, near
        )
        advance(1, 1, f"{result.accepted.num_rows} accepted, {result.quarantine.num_rows} quarantined")
        accepted = store.write_table("accepted", result.accepted, ACCEPTED)
        return ValidationResult(
            accepted=accepted,
            quarantine=store.write_table("quarantine", result.quarantine, QUARANTINE),
            checks=store.write_table("checks", result.checks, CHECKS),
            verdicts=store.write_table(VERDICTS_FOLDER, result.verdicts, VERDICTS),
            data_docs=docs,
            inputs=inputs,
            compared_with=previous,
            reference=accepted if config.accept_change else previous.reference or accepted,
            refusal=result.refusal,
            notes=result.notes,
        )


def _digest(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None
) -> str:
    return sha256_json(fingerprint([recordings, facts, config, collections]))


def record_name(source: Source, series: str | None) -> str:
    """The file that records what was accepted last: in this series, or under this configuration of the source."""
    return f"accepted/last-{sha256_json(series)[:20] if series else source.digest()[:20]}.json"


@uncached_task("last accepted")
def last_accepted(
    source: Source, recordings: Artifact, facts: Artifact, config: ValidationConfig,
    collections: tuple[str, ...] | None, registry: RegistryConfig, store: Store,
) -> PreviouslyAccepted:  # fmt: skip
    """What these recordings are to be compared with; nothing in the first run."""
    name = record_name(source, config.series)
    try:
        record = AcceptedRecord.model_validate_json(store.local(name).read_text())
    except FileNotFoundError:
        return PreviouslyAccepted()
    except (ValidationError, UnicodeDecodeError):
        add_note(f"{name}, the record of what was accepted last, {UNREADABLE}")
        return PreviouslyAccepted()
    if record.inputs == _digest(recordings, facts, config, collections):
        previous = record.compared_with  # with nothing new, the same comparison: the stage stays cached
    else:
        champion, known = accepted_for_champion(registry, name, store), record.compared_with.champion
        is_new = champion is not None and champion.digest != known
        previous = PreviouslyAccepted(
            last=record.accepted,
            reference=champion if is_new else record.reference or record.accepted,
            champion=champion.digest if champion else known,
        )
        previous = previous.model_copy(update={"verdicts": record.verdicts})
    verdicts = previous.verdicts
    of_this_version = verdicts is not None and verdicts.name.startswith(f"{VERDICTS_FOLDER}/")
    readable: dict[str, Artifact | None] = {"verdicts": None}
    if verdicts and of_this_version and _is_readable(verdicts, VERDICTS, store):
        readable["verdicts"] = verdicts
    for field in ("last", "reference"):
        accepted = getattr(previous, field)
        readable[field] = accepted if accepted is None or _is_readable(accepted, ACCEPTED, store) else None
        if readable[field] != accepted:
            add_note(f"{accepted.name}, recordings accepted earlier, {UNREADABLE}")
    return previous.model_copy(update=readable)


def _is_readable(table: Artifact, schema: pa.Schema, store: Store) -> bool:
    """Whether a table is in the store, undamaged, and of the present schema."""
    with suppress(StoreError):
        if store.intact(table):
            store.read_table(table, schema)
            return True
    return False


@uncached_task("accept")
def accept(
    result: ValidationResult, recordings: Artifact, source: Source, series: str | None, store: Store
) -> Artifact:
    """The accepted recordings, recorded for the next comparison. Raises `DataRefused` when the table is unfit.

    Either way the refused ones, with their paths, are in ``latest/quarantine.csv`` for people.
    """
    refused = store.read_frame(result.quarantine, QUARANTINE)
    uris = store.read_frame(recordings, RECORDINGS)[["recording_id", "uri"]]
    with atomic_write(store.workpath("latest/quarantine.csv")) as file:
        file.write(csv_text(refused.merge(uris, on="recording_id")).encode())
    for note in result.notes:
        add_note(note)
    if result.refusal:
        raise DataRefused(
            f"nothing was trained: {result.refusal}. Each refused recording is in "
            f"{store.workpath('latest/quarantine.csv')}, all checks are in "
            f"{store.workpath(result.data_docs) / 'index.html'}"
        )
    with store.writing(record_name(source, series)) as file:
        file.write(result.model_dump_json().encode())
    return result.accepted
