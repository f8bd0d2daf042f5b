"""`heartbeat reproduce`: a registered version trained again in a scratch store, and compared."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from flows.cli.console import bar, note, plain_console
from flows.cli.exit_codes import ExitCode
from flows.cli.outputs import writable_file
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store, conform, read_parquet
from tasks.registry.version_files import (
    INIT_TAG,
    MACHINE_TAG,
    RegisteredModel,
    before_calibration,
    fetch_model,
    run_file,
    run_settings,
)

if TYPE_CHECKING:
    import pandas as pd

    from heartdata.serving.reproduction import Reproduction


def reproduce_model(model: str, out: Path | None, config: RunConfig, data: Path | None = None) -> None:
    """Train ``model`` again and print how it differs; ``out``: the same as JSON. Raises `HeartbeatError`.

    ``data``: a folder that the recordings have moved to.

    Exits with `ExitCode.GATES_NOT_PASSED` where it is not reproduced.
    """
    store = Store(config.store)
    if data and not data.is_dir():
        raise HeartbeatError(f"--data {data} is no folder: name the one that the recordings have moved to")
    out = writable_file(out) if out else None
    prepare_environment(store.open())
    console = plain_console()
    with TemporaryDirectory(dir=store.workpath(""), prefix="reproduce-") as temporary:
        folder = Path(temporary)
        with console.status("loading"):
            registered = fetch_model(model, config.registry, store, folder)
        if original := before_calibration(registered):
            console.print(note(f"{registered.uri} is {original} with another calibration: training {original} again"))
            registered = fetch_model(original, config.registry, store, folder)
        result = _reproduce(registered, folder, config, store, data)
    console.print(_sentence(result), soft_wrap=True, markup=False)
    if out:
        out.write_text(result.to_json() + "\n", encoding="utf-8")
        console.print(f"Written     {out}", markup=False)
    if not result.reproduced:
        raise typer.Exit(ExitCode.GATES_NOT_PASSED)


def _reproduce(
    registered: RegisteredModel, folder: Path, config: RunConfig, store: Store, data: Path | None
) -> "Reproduction":
    from heartdata.serving.predictor import Predictor
    from heartdata.serving.reproduction import (
        Reproduction,
        check_recordings,
        differences,
        moved_to,
        render_again,
        train_again,
    )
    from heartdata.training.network import processor_and_torch, read_weights

    console, scratch = plain_console(), Store(folder / "store").open()
    settings, manifest, uris, tags = _recorded(registered, folder)
    if data:
        with console.status("looking for recordings"):
            uris = moved_to(data, manifest, uris)
    with bar(console, "checking recordings") as advance:
        check_recordings(manifest, uris, advance)
    start = _initial_weights(tags, config, store, scratch)
    with bar(console, "spectrograms") as advance:
        channel = settings.measure.channel
        manifest = render_again(manifest, uris, settings.spectrogram, channel, scratch, advance)
    with bar(console, "training") as advance:
        initial = read_weights(start) if start else None
        weights = train_again(manifest, initial, settings.training.networks(), scratch, advance)
    (folder / "again.safetensors").write_bytes(weights)
    with bar(console, "predicting") as advance:
        first = Predictor.load(registered.weights, registered.config)
        second = Predictor.load(folder / "again.safetensors", registered.config)
        compared = differences(first, second, manifest, scratch, advance)
    return Reproduction.model_validate({
        "model": registered.uri,
        "weights_sha256": hashlib.sha256(registered.weights.read_bytes()).hexdigest(),
        "weights_sha256_again": hashlib.sha256(weights).hexdigest(),
        "machine": tags.get(MACHINE_TAG, ""),
        "machine_again": processor_and_torch(),
        **compared,
    })  # fmt: skip


def _recorded(
    registered: RegisteredModel, folder: Path
) -> tuple[RunConfig, "pd.DataFrame", dict[str, str], dict[str, str]]:
    """Of the run: its settings, manifest, the URI of each recording by id, and its tags. Raises `HeartbeatError`."""
    import mlflow

    run_id = registered.version.run_id
    values = run_settings(run_id, folder)
    tables = [run_file(run_id, f"tables/{name}.parquet", folder) for name in ("manifest", "recordings")]
    if values is None or None in tables:
        raise HeartbeatError(
            f"the run of {registered.uri} has no settings or no manifest any more: train a new version"
        )
    try:
        settings = RunConfig.model_validate(values)
    except ValidationError as error:
        raise HeartbeatError(
            f"{registered.uri} was trained with settings that this version of heartbeat does not have "
            f"({error.error_count()} faults): reproduce it with the version that trained it"
        ) from error
    manifest, recordings = (read_parquet(path) for path in tables if path)
    uris = recordings.select(["recording_id", "uri"]).to_pylist()
    tags = mlflow.get_run(run_id).data.tags
    frame = conform(manifest, MANIFEST, f"the manifest of {registered.uri}").to_pandas()
    return settings, frame, {row["recording_id"]: row["uri"] for row in uris}, tags


def _initial_weights(tags: dict[str, str], config: RunConfig, store: Store, scratch: Store) -> Path | None:
    """The weights that the training started from; None for random ones. Raises `HeartbeatError`."""
    kind, digest = tags.get("init", "random"), tags.get(INIT_TAG, "")
    if kind == "random":
        return None
    kept = Artifact(name=f"initial/{digest[:20]}.safetensors", digest=digest, rows=0)
    if digest and store.intact(kept):
        return store.local(kept.name)
    from tasks.train import resolve_initial_weights

    initial = resolve_initial_weights(kind, config.registry, scratch)
    if initial.weights is None or (digest and initial.weights.digest != digest):
        raise HeartbeatError(
            f"the training started from {kind}, which is not what it was (its sha256 was {digest[:12]}...): restore that"
        )
    return scratch.local(initial.weights.name)


def _sentence(result: "Reproduction") -> str:
    from heartdata.serving.reproduction import TOLERANCE

    if result.identical:
        return f"{result.model} is reproduced: the same weights, bit by bit (sha256 {result.weights_sha256[:12]})"
    elsewhere = ""
    if result.machine != result.machine_again:
        trained = result.machine or "an unknown machine"
        elsewhere = f". It was trained on {trained}; this is {result.machine_again}"
    verdict = f"is reproduced within {TOLERANCE:g}" if result.reproduced else "is NOT reproduced"
    return (
        f"{result.model} {verdict}: the weights differ, probabilities by up to {result.max_difference:.4f}, "
        f"{result.changed_labels} of {result.recordings} test recordings get another label, macro-F1 "
        f"{result.macro_f1_again:.3f} instead of {result.macro_f1:.3f}{elsewhere}"
    )
