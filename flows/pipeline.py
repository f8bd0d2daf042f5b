"""The flow `heartbeat`: from raw recordings to a registered model."""

from prefect import flow

from heartdata.config import RunConfig
from heartdata.store import Store
from tasks.evaluate import evaluate
from tasks.inventory import inventory
from tasks.manifest import manifest
from tasks.measure import measure
from tasks.register import note_on, register
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.summary import Summary, summarise
from tasks.train import initial_weights, train
from tasks.validate import accept, last_accepted, validate


@flow(name="heartbeat", log_prints=False)
def heartbeat(config: RunConfig = RunConfig()) -> Summary:  # noqa: B008 (frozen)
    """Check, part and render the recordings of a source; train, evaluate and register a model."""
    store = Store(config.store).open()
    recordings = inventory(config.source, store)
    facts = measure(recordings, config.measure, config.engine, store)
    in_use = config.split.collections
    before = last_accepted(config.source, recordings, facts, config.validation, in_use, store)
    checked = validate(recordings, facts, config.validation, in_use, before, store)
    accepted = accept(checked, recordings, config.source, config.validation.series, store)
    splits = split(accepted, config.split, store, recordings)
    rendered = spectrograms(recordings, splits, config.spectrogram, config.engine, store)
    dataset = manifest(accepted, splits, rendered, store)
    initial = initial_weights(config.training.init, config.registry, store)
    model = train(dataset, initial, config.training, config.spectrogram, store)
    evaluation = evaluate(dataset, model, config.evaluation, note_on(config), store)
    registered = register(recordings, dataset, model, evaluation, config, store)
    return summarise(recordings, checked, dataset, model, evaluation, registered, config, store)
