"""Stage 3: the Great Expectations suite; quarantine with reasons, Data Docs, and the stop when the table is unfit."""

from pydantic import BaseModel, ConfigDict

from heartdata.errors import DataRefused
from heartdata.schemas import ACCEPTED, CHECKS, FACTS, QUARANTINE, RECORDINGS
from heartdata.store import Artifact, Store, sha256_json
from heartdata.suite import VERSION, ValidationConfig
from heartdata.validation import validate as run_suite
from tasks.progress import track
from tasks.stage import files_intact, fingerprint, stage


class Checked(BaseModel):
    """What came of the checks. ``docs`` is the Data Docs' folder in the store; ``refusal`` stops the run."""

    model_config = ConfigDict(frozen=True)

    accepted: Artifact
    quarantine: Artifact
    checks: Artifact
    docs: str
    refusal: str | None = None


def _valid(result: Checked, store: Store) -> bool:
    return files_intact(result, store) and (store.path(result.docs) / "index.html").is_file()


@stage("validate", VERSION, valid=_valid)
def validate(
    recordings: Artifact, facts: Artifact, config: ValidationConfig, collections: tuple[str, ...] | None, store: Store
) -> Checked:
    """Every recording to accepted or quarantine. A failed check on the table is told in ``refusal``.

    ``collections``: those that will be trained on, or None for all.
    """
    with track("validate", unit="recordings") as advance:
        listed, measured = store.read_table(recordings, RECORDINGS), store.read_table(facts, FACTS)
        docs = f"data-docs/{sha256_json(fingerprint([VERSION, recordings, facts, config, collections]))[:20]}"
        result = run_suite(listed, measured, config, store.path(docs), collections)
        advance(1, 1, f"{result.accepted.num_rows} accepted, {result.quarantine.num_rows} quarantined")
        return Checked(
            accepted=store.write_table("accepted", result.accepted, ACCEPTED),
            quarantine=store.write_table("quarantine", result.quarantine, QUARANTINE),
            checks=store.write_table("checks", result.checks, CHECKS),
            docs=docs,
            refusal=result.refusal,
        )


def accepted_of(checked: Checked, store: Store) -> Artifact:
    """The accepted recordings. Raises `DataRefused` when a check on the whole table failed."""
    if checked.refusal:
        raise DataRefused(
            f"nothing was trained: {checked.refusal}. Each refused recording stands in "
            f"{store.path(checked.quarantine.name)}, all checks in {store.path(checked.docs) / 'index.html'}"
        )
    return checked.accepted
