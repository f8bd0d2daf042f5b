"""Whether tonight's model becomes the champion, by the rules of docs/promotion.md, and who is told so."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from heartdata.config import RunConfig
from heartdata.dataset.provenance import was_trained_on
from heartdata.errors import StoreError
from heartdata.reports.summary import OUTCOMES, gate_rows
from heartdata.scoring import promotion
from heartdata.scoring.promotion import HELD_OUT, Decision
from heartdata.settings import sha256_json
from heartdata.storage.schemas import FACTS, MANIFEST, SLICE_ATTRIBUTES, TRAINED_ON, predictions_schema
from heartdata.storage.store import Artifact, Store, atomic_write, read_parquet
from tasks.champion_predictions import UnusableChampion, champion_predictions
from tasks.engine.progress import add_note, track
from tasks.engine.stage import fingerprint, uncached_task
from tasks.registry.aliases import same_series
from tasks.registry.champion import Champion, move_champion, settled_champion
from tasks.registry.client import CHAMPION, connect
from tasks.registry.naming import metric_name
from tasks.registry.previous import recordings_trained_on
from tasks.registry.version_files import run_file
from tasks.results import Evaluation, RegisteredVersion

TAGS = "promotion."  # of a version: the decision
DECIDED_TAG, INPUTS_TAG = f"{TAGS}outcome", f"{TAGS}inputs"  # its outcome, and the digest of what it was made from
DECISION_FILE = "decision.json"  # in the version's run, and in latest/
TAG_LENGTH = 1000


@dataclass(frozen=True)
class Promotion:
    """The decision on a version; ``nothing_new``: a sentence for people where it is an earlier run's, else empty."""

    decision: Decision
    nothing_new: str = ""


@dataclass(frozen=True)
class Challenger:
    """Tonight's version and what it is judged by."""

    version: Any
    recordings: Artifact
    manifest: Artifact
    facts: Artifact
    trained_on: Artifact
    evaluation: Evaluation
    attributes: Artifact

    @property
    def number(self) -> int:
        return int(self.version.version)


@uncached_task("promote")
def promote(
    registered: RegisteredVersion, recordings: Artifact, manifest: Artifact, facts: Artifact, trained_on: Artifact,
    evaluation: Evaluation, attributes: Artifact, config: RunConfig, store: Store,
) -> Promotion:  # fmt: skip
    """Compare the registered version with the champion on recordings that both were not trained on, and decide."""
    client = connect(config.registry, store)
    with track("promote") as advance:
        result = None
        while result is None:  # again, where another run or a person has changed the champion meanwhile
            version = client.get_model_version(registered.name, str(registered.version))
            challenger = Challenger(version, recordings, manifest, facts, trained_on, evaluation, attributes)
            result = _promote(challenger, client, config, store)
        advance(1, 1, "nothing new" if result.nothing_new else OUTCOMES[result.decision.outcome])
    with atomic_write(store.workpath(f"latest/{DECISION_FILE}")) as file:
        file.write(result.decision.model_dump_json(indent=2).encode())
    return result


def _promote(challenger: Challenger, client: Any, config: RunConfig, store: Store) -> Promotion | None:
    """None where the champion that the challenger was compared with is the champion no more."""
    name = challenger.version.name
    champion = settled_champion(client, name, store)
    inputs = _digest_of_inputs(challenger, champion.version, config)
    if nothing_new := _nothing_new(challenger, champion, inputs):
        earlier = _earlier_decision(challenger)
        return Promotion(earlier or Decision(outcome="kept", reason=nothing_new), nothing_new)
    try:
        decision = _decide(challenger, champion, client, config, store)
    except UnusableChampion as error:  # perhaps for this night only
        decision = _undecided(f"the champion, version {champion.version}, cannot be loaded: {error}")
        inputs = ""
    decision = decision.model_copy(update={"challenger": challenger.number, "champion": champion.version})
    _tag(decision, challenger.version, client)
    if decision.outcome == "promoted" and not move_champion(
        client, name, challenger.number, "rule", decision.reason, store, champion
    ):
        return None
    if inputs:
        client.set_model_version_tag(name, str(challenger.number), INPUTS_TAG, inputs)
    if FlowRunContext.get():
        create_table_artifact(
            gate_rows(decision), key="promotion", description=f"**{decision.outcome}**: {decision.reason}"
        )
    return Promotion(decision)


def _digest_of_inputs(challenger: Challenger, champion: int | None, config: RunConfig) -> str:
    evaluation = challenger.evaluation
    results = [evaluation.predictions, evaluation.baselines, challenger.attributes, challenger.trained_on]
    rules = [config.promotion, config.evaluation, config.validation.near_duplicate_similarity]
    of_registry = [config.registry.first_champion, CHAMPION in config.registry.aliases]
    return sha256_json([fingerprint([*results, *rules]), of_registry, champion])


def _nothing_new(challenger: Challenger, champion: Champion, inputs: str) -> str:
    """Why there is nothing to decide; empty where there is."""
    number, choice = challenger.number, champion.choice_over(challenger.number)
    if not (choice or champion.version == number or challenger.version.tags.get(INPUTS_TAG) == inputs):
        return ""
    registered = datetime.fromtimestamp(challenger.version.creation_timestamp / 1000, UTC)
    standing = f"the champion is version {champion.version}" if champion.version else "there is no champion"
    version = f"{challenger.version.name} version {number}"
    decided_on = f"Nothing new since {version} of {registered:%Y-%m-%d}"
    subject = decided_on if DECIDED_TAG in challenger.version.tags else f"{version} is not compared"
    verb = "which {who} chose on" if champion.version else "as {who} decided on"
    chosen = f", {verb.format(who=choice.who)} {choice.when:%Y-%m-%d} ({choice.reason})" if choice else ""
    return f"{subject}; {standing}{chosen}"


def _decide(challenger: Challenger, champion: Champion, client: Any, config: RunConfig, store: Store) -> Decision:
    name, number = challenger.version.name, challenger.number
    if CHAMPION in config.registry.aliases:
        return Decision(outcome="promoted", reason="registry.aliases makes every new version the champion")
    predictions = of_champion = None
    if champion.version is not None:
        of_champion = client.get_model_version(name, str(champion.version))
        rows = _held_out_from_both(challenger, of_champion, config, store)
        if rows is None:
            return _undecided(f"the champion, version {champion.version}, does not say what it was trained on")
        predictions = champion_predictions(of_champion, rows, challenger.recordings, challenger.facts, config, store)
        if not same_series(of_champion.tags, challenger.version.tags):
            add_note(
                f"Version {number} is of another source or series than {name}@{CHAMPION}, version {champion.version}: they "
                f"are compared on the {len(predictions)} recordings that were held out from both"
            )
    classes = list(challenger.evaluation.per_class)
    schema = predictions_schema(classes)
    baselines = challenger.evaluation.baselines.items()
    tested = store.read_frame(challenger.evaluation.predictions, schema)
    decision = promotion.decide(
        tested,
        {name: store.read_frame(table, schema) for name, table in baselines},
        predictions,
        store.read_frame(challenger.attributes, SLICE_ATTRIBUTES),
        classes,
        config.promotion,
        config.evaluation,
        config.registry.first_champion,
    )
    remedy = _remedy(decision, challenger, tested["group"].nunique(), of_champion, config)
    return decision.model_copy(update={"reason": f"{decision.reason}; {remedy}"}) if remedy else decision


def _remedy(decision: Decision, challenger: Challenger, tested: int, of_champion: Any, config: RunConfig) -> str:
    """What to do where too few subjects are held out to decide, ``tested`` of them in the test part; else empty."""
    failed = [gate.name for gate in decision.gates if not gate.passed]
    if decision.outcome != "cannot decide" or HELD_OUT not in failed:
        return ""
    version = challenger.version
    if of_champion is None or tested < config.promotion.min_subjects:
        command = f"heartbeat champion promote {version.version} --model {version.name} --reason ..."
        return f"choose it yourself ({command})" + (", or lower promotion.min_subjects" if len(failed) == 1 else "")
    if config.split.redraws_test and same_series(of_champion.tags, version.tags):
        return (
            f"split.strategy={config.split.strategy} draws another test part when recordings are added: set "
            "split.strategy=hash, and choose the first version trained with it yourself (heartbeat champion promote)"
        )
    return ""


def _undecided(obstacle: str) -> Decision:
    return Decision(outcome="cannot decide", reason=f"the champion stays: {obstacle}")


def _held_out_from_both(challenger: Challenger, champion: Any, config: RunConfig, store: Store) -> pd.DataFrame | None:
    """The test recordings whose subjects neither model was trained or tuned on, nor on near-duplicates of theirs.

    Of models of different sources or series, those that were in the champion's test part as well. None where the
    champion's provenance is unknown. Raises `UnusableChampion`.
    """
    from mlflow.exceptions import MlflowException

    try:
        of_champion = recordings_trained_on(champion.run_id)
    except (MlflowException, pa.ArrowException, OSError, StoreError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise UnusableChampion(f"the list of what it was trained on cannot be read ({text})") from error
    if of_champion is None:
        return None
    manifest, facts = store.read_frame(challenger.manifest, MANIFEST), store.read_frame(challenger.facts, FACTS)
    tested = manifest[manifest["part"] == "test"]
    either = pa.concat_tables([of_champion, store.read_table(challenger.trained_on, TRAINED_ON)])
    leaked = was_trained_on(tested, facts, either, config.validation.near_duplicate_similarity)
    rows = tested[~tested["group"].isin(tested["group"][leaked])]
    if not same_series(champion.tags, challenger.version.tags):
        rows = rows[rows["sha256"].isin(_tested_on(champion.run_id))]
    return rows.reset_index(drop=True)


def _tested_on(run_id: str) -> set[str]:
    """The recordings of the test part of a registered version, by sha256."""
    with TemporaryDirectory() as folder:
        path = run_file(run_id, "tables/manifest.parquet", Path(folder))
        if path is None:
            return set()
        manifest = read_parquet(path).to_pandas()
    return set(manifest.loc[manifest["part"] == "test", "sha256"])


def _tag(decision: Decision, version: Any, client: Any) -> None:
    """The decision as tags of the version, in place of those of an earlier one, and as a file of its run."""
    tags = {"outcome": decision.outcome, "reason": decision.reason}
    tags |= {f"gate.{row['gate']}": f"{row['value']} {row['bound']} {row['passed']}" for row in gate_rows(decision)}
    named = {metric_name(TAGS + name): value[:TAG_LENGTH] for name, value in tags.items()}
    for name in version.tags:
        if name.startswith(TAGS) and name not in named:
            client.delete_model_version_tag(version.name, version.version, name)
    for name, value in named.items():
        client.set_model_version_tag(version.name, version.version, name, value)
    client.log_dict(version.run_id, decision.model_dump(mode="json"), DECISION_FILE)


def _earlier_decision(challenger: Challenger) -> Decision | None:
    """The decision that an earlier run made on the version."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return Decision.model_validate(mlflow.artifacts.load_dict(f"runs:/{challenger.version.run_id}/{DECISION_FILE}"))
    except (MlflowException, OSError, ValueError):
        return None
