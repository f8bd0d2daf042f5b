"""`heartbeat export`: a registered model as a folder."""

from pathlib import Path
from tempfile import TemporaryDirectory

from flows.cli.console import plain_console
from flows.cli.outputs import writable_folder
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.storage.store import Store
from tasks.registry.version_files import MODEL_CARD, fetch_model, run_file


def export_model(model: str | None, out: Path, onnx: bool, config: RunConfig) -> None:
    """Write a registered model to the folder ``out``; ``model``: as in `find_version`. Raises `HeartbeatError`."""
    store = Store(config.store)
    out = writable_folder(out)
    prepare_environment(store.open())
    console = plain_console()
    with console.status("loading"), TemporaryDirectory() as temporary:
        from heartdata.serving.export import export

        registered = fetch_model(model, config.registry, store, Path(temporary))
        card = run_file(registered.version.run_id, MODEL_CARD, Path(temporary))
        text = card.read_text(encoding="utf-8") if card else f"# {registered.uri}\n\n{registered.version.description}\n"
        files = export(registered.weights, registered.config, out, registered.uri, text, onnx)
    console.print(f"{registered.uri} is in {out}:", markup=False, soft_wrap=True)
    for file in files:
        console.print(f"  {file.stat().st_size / 1e6:7.2f} MB  {file.name}", markup=False)
