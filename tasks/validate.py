"""Stage 3: the Great Expectations suite; quarantine with reasons, Data Docs, and the stop when the table is unfit."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from heartdata.errors import DataRefused, StoreError
from heartdata.schemas import ACCEPTED, CHECKS, FACTS, QUARANTINE, RECORDINGS
from heartdata.sources import Source
from heartdata.store import Artifact, Store, atomic_write, sha256_json
from heartdata.suite import ValidationConfig
from heartdata.validation import validate as run_suite
from tasks.progress import remark, track
from tasks.results import Checked
from tasks.stage import files_intact, fingerprint, is_transient, stage
from tasks.versions import STAGES

UNREADABLE = (
    "cannot be read (of another version of heartbeat, gone or damaged): tonight's recordings were compared with none "
    "accepted before, and later ones are compared with tonight's"
)


def _valid(result: Checked, store: Store) -> bool:
    return files_intact(result, store) and (store.workpath(result.docs) / "index.html").is_file()


@stage("validate", valid=_valid)
def validate(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None,
    before: Artifact | None, store: Store,
) -> Checked:  # fmt: skip
    """Every recording to accepted or quarantine. A failed check on the table is told in ``refusal``.

    ``collections``: those that will be trained on, or None for all. ``before``: what was accepted last time, if ever.
    """
    with track("validate", unit="recordings") as advance:
        of = _inputs(recordings, facts, config, collections)
        docs = f"data-docs/{sha256_json(fingerprint([STAGES['validate'].version, of, before]))[:20]}"
        listed, measured = store.read_table(recordings, RECORDINGS), store.read_table(facts, FACTS)
        last = store.read_table(before, ACCEPTED) if before else None
        result = run_suite(listed, measured, config, store.workpath(docs), collections, last)
        advance(1, 1, f"{result.accepted.num_rows} accepted, {result.quarantine.num_rows} quarantined")
        return Checked(
            accepted=store.write_table("accepted", result.accepted, ACCEPTED),
            quarantine=store.write_table("quarantine", result.quarantine, QUARANTINE),
            checks=store.write_table("checks", result.checks, CHECKS),
            docs=docs,
            of=of,
            before=before,
            refusal=result.refusal,
        )


def _inputs(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None
) -> str:
    return sha256_json(fingerprint([recordings, facts, config, collections]))


def _memory(source: Source, series: str | None) -> str:
    """The file that remembers what was accepted last: in this series, or under this configuration of the source."""
    return f"accepted/last-{sha256_json(series)[:20] if series else source.digest()[:20]}.json"


@task(name="last accepted", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def last_accepted(
    source: Source, recordings: Artifact, facts: Artifact, config: ValidationConfig,
    collections: tuple[str, ...] | None, store: Store,
) -> Artifact | None:  # fmt: skip
    """What these recordings are to be compared with: the recordings accepted before them, or None at the first time."""
    try:
        last = Checked.model_validate_json(store.local(_memory(source, config.series)).read_text())
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError):
        remark(f"The record of what was accepted last {UNREADABLE}")
        return None
    same = last.of == _inputs(recordings, facts, config, collections)
    before = last.before if same else last.accepted  # with nothing new, what was compared then: the stage stays cached
    if before is None:
        return None
    try:
        if store.intact(before):
            store.read_table(before, ACCEPTED)
            return before
    except StoreError:  # of another schema
        pass
    remark(f"{before.name}, the recordings accepted last, {UNREADABLE}")
    return None


@task(name="accept", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def accept(checked: Checked, recordings: Artifact, source: Source, series: str | None, store: Store) -> Artifact:
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
    with store.writing(_memory(source, series)) as file:
        file.write(checked.model_dump_json().encode())
    return checked.accepted
