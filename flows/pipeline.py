"""The flow `heartbeat`: from raw recordings to a registered model; and `prepare`, its part before training."""

from dataclasses import dataclass

from prefect import flow

from heartdata.config import RunConfig, SpectrogramConfig
from heartdata.storage.store import Artifact, Store
from heartdata.training.recipe import TrainingConfig
from tasks.calibrate import calibrate
from tasks.engine.failure_notice import run_store
from tasks.engine.progress import label_each
from tasks.ensemble import ensemble
from tasks.evaluate import evaluate
from tasks.inventory import inventory
from tasks.manifest import manifest
from tasks.measure import measure
from tasks.register import register, usage_note
from tasks.results import InitialWeights, TrainedModel, ValidationResult
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.summary import Summary, summarise
from tasks.train import initial_weights, provenance, train
from tasks.validate import accept, last_accepted, validate


@dataclass(frozen=True)
class Prepared:
    """What training starts from: the manifest as data set, and what was found and refused on the way to it."""

    found: "Ingested"
    dataset: Artifact


@dataclass(frozen=True)
class Ingested:
    """The recordings of a source, their facts, and those that were accepted."""

    recordings: Artifact
    facts: Artifact
    checked: ValidationResult
    accepted: Artifact


@flow(name="heartbeat", log_prints=False)
def heartbeat(config: RunConfig = RunConfig()) -> Summary:  # noqa: B008 (frozen)
    """Check, part and render the recordings of a source; train, evaluate and register a model."""
    with run_store(config) as store:
        prepared = prepare_dataset(store, config)
        found, dataset = prepared.found, prepared.dataset
        initial = initial_weights(config.training.init, config.registry, store)
        sounds = provenance(dataset, found.facts, initial, config.validation.near_duplicate_similarity, store)
        trained = train_model(dataset, initial, config.training, config.spectrogram, store)
        bounds = config.validation.loosest()
        model = calibrate(dataset, trained, config.decision, config.measure, bounds, store)
        evaluation = evaluate(dataset, model, config.evaluation, usage_note(config), store)
        registered = register(found.recordings, found.accepted, dataset, sounds, model, evaluation, config, store)
        return summarise(found.recordings, found.checked, dataset, model, evaluation, registered, config, store)


@flow(name="prepare", log_prints=False)
def prepare(config: RunConfig = RunConfig()) -> Artifact:  # noqa: B008 (frozen)
    """Everything before training; returns the manifest."""
    return prepare_dataset(Store(config.store).open(), config).dataset


def prepare_dataset(store: Store, config: RunConfig) -> Prepared:
    """Check, part and render the recordings of a source, inside a flow."""
    found = ingest(store, config)
    splits = split(found.accepted, config.split, store, found.recordings)
    rendered = spectrograms(found.recordings, [splits], config.spectrogram, config.engine, store)
    return Prepared(found, manifest(found.accepted, splits, rendered, store))


def ingest(store: Store, config: RunConfig) -> Ingested:
    """List, measure and check the recordings of a source, inside a flow."""
    recordings = inventory(config.source, store)
    facts = measure(recordings, config.measure, config.engine, store)
    in_use = config.split.collections
    before = last_accepted(config.source, recordings, facts, config.validation, in_use, config.registry, store)
    checked = validate(recordings, facts, config.validation, in_use, before, store)
    accepted = accept(checked, recordings, config.source, config.validation.series, store)
    return Ingested(recordings, facts, checked, accepted)


def train_model(
    dataset: Artifact, initial: InitialWeights, config: TrainingConfig, spectrogram: SpectrogramConfig, store: Store
) -> TrainedModel:
    """Train the network that ``config`` asks for, or several that answer together, inside a flow."""
    asked, many = config.networks(), config.members
    names = [f"network {number} of {many}" if many > 1 else "" for number in range(1, many + 1)]
    networks = [train(dataset, initial, network, spectrogram, store) for network in label_each(asked, names)]
    return networks[0] if len(networks) == 1 else ensemble(networks, store)
