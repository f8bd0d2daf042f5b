"""The flow `heartbeat`: from raw recordings to a registered model."""

from prefect import flow

from heartdata.config import RunConfig
from heartdata.store import Store
from tasks.evaluate import evaluate
from tasks.inventory import inventory
from tasks.manifest import manifest
from tasks.measure import measure
from tasks.register import register
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.summary import MADE, Summary, summarise
from tasks.train import initial_weights, train
from tasks.validate import accepted_of, validate


@flow(name="heartbeat", log_prints=False)
def heartbeat(config: RunConfig = RunConfig()) -> Summary:  # noqa: B008 (frozen)
    """Check, part and render the recordings of a source; train, evaluate and register a model."""
    store = Store(config.store).open()
    recordings = inventory(config.source, store)
    facts = measure(recordings, config.measure, store)
    checked = validate(recordings, facts, config.validation, config.split.collections, store)
    accepted = accepted_of(checked, store)
    splits = split(accepted, config.split, store)
    rendered = spectrograms(recordings, splits, config.spectrogram, store)
    dataset = manifest(accepted, splits, rendered, store)
    initial = initial_weights(config.training.init, config.registry, store)
    model = train(dataset, initial, config.training, config.spectrogram, store)
    note = MADE if config.source.name == "demo" else "Research use only"
    evaluation = evaluate(dataset, model, config.evaluation, note, store)
    registered = register(recordings, dataset, model, evaluation, config, store)
    return summarise(recordings, checked, dataset, model, evaluation, registered, config, store)
