"""Stage 3: the Great Expectations suite; quarantine with reasons, Data Docs, and the stop when the table is unfit."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate as run_suite
from heartdata.config import RegistryConfig
from heartdata.errors import DataRefused, StoreError
from heartdata.settings import sha256_json
from heartdata.sources import Source
from heartdata.storage.schemas import ACCEPTED, CHECKS, FACTS, QUARANTINE, RECORDINGS
from heartdata.storage.store import Artifact, Store, atomic_write
from tasks.engine.progress import add_note, track
from tasks.engine.stage import files_intact, fingerprint, is_transient, stage
from tasks.engine.versions import STAGES
from tasks.registry.client import accepted_for_champion
from tasks.results import Earlier, ValidationResult

UNREADABLE = (
    "cannot be read (of another version of heartbeat, gone or damaged): tonight's recordings were compared with none "
    "accepted before, and later ones are compared with tonight's"
)


def _valid(result: ValidationResult, store: Store) -> bool:
    return files_intact(result, store) and (store.workpath(result.docs) / "index.html").is_file()


@stage("validate", valid=_valid)
def validate(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None,
    before: Earlier, store: Store,
) -> ValidationResult:  # fmt: skip
    """Every recording to accepted or quarantine. A failed check on the table is told in ``refusal``.

    ``collections``: those that will be trained on, or None for all. ``before``: what was accepted earlier.
    """
    from heartdata.reports.plots import plot_drift

    with track("validate", unit="recordings") as advance:
        of = _inputs(recordings, facts, config, collections)
        docs = f"data-docs/{sha256_json(fingerprint([STAGES['validate'].version, of, before]))[:20]}"
        listed, measured = store.read_table(recordings, RECORDINGS), store.read_table(facts, FACTS)
        last = store.read_table(before.last, ACCEPTED) if before.last else None
        pinned = before.reference if before.reference != before.last else None  # compared once where both are one
        reference = store.read_table(pinned, ACCEPTED) if pinned else None
        result = run_suite(listed, measured, config, store.workpath(docs), collections, last, reference, plot_drift)
        advance(1, 1, f"{result.accepted.num_rows} accepted, {result.quarantine.num_rows} quarantined")
        accepted = store.write_table("accepted", result.accepted, ACCEPTED)
        return ValidationResult(
            accepted=accepted,
            quarantine=store.write_table("quarantine", result.quarantine, QUARANTINE),
            checks=store.write_table("checks", result.checks, CHECKS),
            docs=docs,
            of=of,
            before=before,
            reference=accepted if config.accept_change else before.reference or accepted,
            refusal=result.refusal,
        )


def _inputs(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None
) -> str:
    return sha256_json(fingerprint([recordings, facts, config, collections]))


def memory_of(source: Source, series: str | None) -> str:
    """The file that remembers what was accepted last: in this series, or under this configuration of the source."""
    return f"accepted/last-{sha256_json(series)[:20] if series else source.digest()[:20]}.json"


@task(name="last accepted", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def last_accepted(
    source: Source, recordings: Artifact, facts: Artifact, config: ValidationConfig,
    collections: tuple[str, ...] | None, registry: RegistryConfig, store: Store,
) -> Earlier:  # fmt: skip
    """What these recordings are to be compared with; nothing at the first time."""
    memory = memory_of(source, config.series)
    try:
        last = ValidationResult.model_validate_json(store.local(memory).read_text())
    except FileNotFoundError:
        return Earlier()
    except (ValidationError, UnicodeDecodeError):
        add_note(f"The record of what was accepted last {UNREADABLE}")
        return Earlier()
    if last.of == _inputs(recordings, facts, config, collections):
        before = last.before  # with nothing new, what was compared then: the stage stays cached
    else:
        champion, known = accepted_for_champion(registry, memory, store), last.before.champion
        another = champion is not None and champion.digest != known
        before = Earlier(
            last=last.accepted,
            reference=champion if another else last.reference or last.accepted,
            champion=champion.digest if champion else known,
        )
    kept: dict[str, Artifact | None] = {}
    for name in ("last", "reference"):
        accepted = getattr(before, name)
        kept[name] = accepted if accepted is None or _readable(accepted, store) else None
        if kept[name] != accepted:
            add_note(f"{accepted.name}, recordings accepted earlier, {UNREADABLE}")
    return before.model_copy(update=kept)


def _readable(accepted: Artifact, store: Store) -> bool:
    """Whether a table of accepted recordings is there, undamaged, and of the present schema."""
    try:
        if store.intact(accepted):
            store.read_table(accepted, ACCEPTED)
            return True
    except StoreError:
        pass
    return False


@task(name="accept", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def accept(
    checked: ValidationResult, recordings: Artifact, source: Source, series: str | None, store: Store
) -> Artifact:
    """The accepted recordings, remembered for the next comparison. Raises `DataRefused` when the table is unfit.

    Either way the refused ones, with where they lie, are in ``latest/quarantine.csv`` for people.
    """
    refused = store.read_frame(checked.quarantine, QUARANTINE)
    where = store.read_frame(recordings, RECORDINGS)[["recording_id", "uri"]]
    with atomic_write(store.workpath("latest/quarantine.csv")) as file:
        refused.merge(where, on="recording_id").to_csv(file, index=False)
    if checked.refusal:
        raise DataRefused(
            f"nothing was trained: {checked.refusal}. Each refused recording stands in "
            f"{store.workpath('latest/quarantine.csv')}, all checks in {store.workpath(checked.docs) / 'index.html'}"
        )
    with store.writing(memory_of(source, series)) as file:
        file.write(checked.model_dump_json().encode())
    return checked.accepted
