"""The flow `heartbeat`, from raw recordings to a registered model, and the flow `prepare`, its part before training."""

from dataclasses import dataclass

from prefect import flow
from prefect.states import Completed, State

from heartdata.config import RunConfig, SpectrogramConfig
from heartdata.storage.store import Artifact, Store
from heartdata.training.recipe import TrainingConfig
from tasks.calibrate import calibrate
from tasks.engine.failure_notice import open_store, run_store
from tasks.engine.progress import label_each
from tasks.ensemble import ensemble
from tasks.evaluate import evaluate
from tasks.inventory import inventory
from tasks.manifest import manifest
from tasks.measure import measure
from tasks.near_duplicates import find_near_duplicates
from tasks.promote import promote
from tasks.register import register, usage_note
from tasks.report import report
from tasks.results import InitialWeights, TrainedModel, ValidationResult
from tasks.retrain import Waiting, what_waits
from tasks.slices import slices
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.summary import Summary, summarise
from tasks.train import initial_weights, provenance, train
from tasks.validate import accept, last_accepted, validate


@dataclass(frozen=True)
class Ingested:
    """The recordings of a source, what was measured in them, and which of them were accepted."""

    recordings: Artifact
    facts: Artifact
    validation: ValidationResult
    accepted: Artifact


@flow(name="heartbeat")
def heartbeat(config: RunConfig = RunConfig()) -> Summary | State[Summary] | State[Waiting]:
    """Validate, split and render the recordings of a source; train, calibrate, evaluate and register a model,
    and decide whether it is the new champion.

    Where too little is new by ``config.retrain``, nothing is trained, and the result is a `Waiting`.
    """
    with run_store(config) as store:
        ingested = ingest(config, store)
        dataset = prepare_dataset(ingested, config, store)
        if config.retrain.waits and (waiting := what_waits(dataset, config, store)):
            return Completed(message=waiting.reason, data=waiting)
        initial = initial_weights(config.training.init, config.registry, store)
        similarity = config.validation.near_duplicate_similarity
        trained_on = provenance(dataset, ingested.facts, initial, similarity, store)
        trained = train_model(dataset, initial, config.training, config.spectrogram, store)
        model = calibrate(dataset, trained, config.decision, config.measure, config.validation.loosest(), store)
        evaluation = evaluate(dataset, model, config.evaluation, usage_note(config), store)
        min_quality = config.validation.loosest().min_quality
        recordings, facts, accepted = ingested.recordings, ingested.facts, ingested.accepted
        sliced = slices(dataset, recordings, facts, evaluation, min_quality, config.evaluation, store)
        version = register(recordings, accepted, dataset, trained_on, model, evaluation, sliced.metrics, config, store)
        promotion = promote(
            version, recordings, dataset, facts, trained_on, evaluation, sliced.attributes, config, store
        )
        validation = ingested.validation
        page = report(
            recordings, accepted, validation.quarantine, validation.checks, dataset, model, evaluation, sliced.metrics,
            version, promotion.decision, config, store,
        )  # fmt: skip
        summary = summarise(recordings, validation, dataset, model, evaluation, version, promotion, page, config, store)
        return Completed(message=promotion.nothing_new, data=summary) if promotion.nothing_new else summary


@flow(name="prepare")
def prepare(config: RunConfig = RunConfig()) -> Artifact:
    """Everything before training; returns the manifest."""
    store = open_store(config.store)
    return prepare_dataset(ingest(config, store), config, store)


def ingest(config: RunConfig, store: Store) -> Ingested:
    """List, measure and validate the recordings of a source, inside a flow."""
    recordings = inventory(config.source, store)
    facts = measure(recordings, config.measure, config.engine, store)
    in_use = config.split.collections
    previous = last_accepted(config.source, recordings, facts, config.validation, in_use, config.registry, store)
    pairs = None
    if config.validation.near_duplicates != "off":
        similarity = config.validation.near_duplicate_similarity
        pairs = find_near_duplicates(recordings, facts, similarity, config.measure, store)
    validation = validate(recordings, facts, pairs, config.validation, in_use, previous, store)
    accepted = accept(validation, recordings, config.source, config.validation.series, store)
    return Ingested(recordings, facts, validation, accepted)


def prepare_dataset(ingested: Ingested, config: RunConfig, store: Store) -> Artifact:
    """Split and render the accepted recordings, inside a flow; returns the manifest."""
    splits = split(ingested.accepted, config.split, store, ingested.recordings)
    rendered = spectrograms(
        ingested.recordings, [splits], config.spectrogram, config.engine, store, config.measure.channel
    )
    return manifest(ingested.accepted, splits, rendered, store)


def train_model(
    dataset: Artifact, initial: InitialWeights, config: TrainingConfig, spectrogram: SpectrogramConfig, store: Store
) -> TrainedModel:
    """Train the network that ``config`` asks for, or an ensemble of several, inside a flow."""
    recipes = config.networks()
    if len(recipes) == 1:
        return train(dataset, initial, recipes[0], spectrogram, store)
    names = [f"network {number} of {len(recipes)}" for number in range(1, len(recipes) + 1)]
    networks = [train(dataset, initial, recipe, spectrogram, store) for recipe in label_each(recipes, names)]
    return ensemble(networks, store)
