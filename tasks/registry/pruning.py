"""Old versions of the registered models: which are removed, and their removal from MLflow and from the store."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.dataset.prune import RECENT_S
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry.champion import model_lock, read_champion
from tasks.registry.client import KEY_TAG, check_registry, connect, is_empty, is_own, pages

CALIBRATED_FROM = "heartbeat.calibrated_from"  # tag of a recalibrated version: the version that its weights are of
MEMBERS_TAG = "heartbeat.members_sha256"  # tag of a run: the weights of an ensemble's networks, comma separated
PRUNED_TAG = "heartbeat.pruned"  # tag of a run whose removal has begun
WEIGHTS = "weights_sha256"  # tag of a run
Key = tuple[str, int]  # a model's name and a version's number


@dataclass(frozen=True)
class Removal:
    """A run whose files are removed, with its logged models and, if it was registered, its version."""

    title: str
    run: Any
    model_ids: tuple[str, ...]
    version: Any = None


@dataclass(frozen=True)
class VersionPlan:
    """What is removed, the names of weights in the store that only removed versions have, how many versions are kept and
    why, and those versions with their runs.
    """

    removals: tuple[Removal, ...] = ()
    weights: frozenset[str] = frozenset()
    kept: dict[str, int] = field(default_factory=dict)
    versions: tuple[tuple[Any, Any], ...] = ()


def plan_versions(config: RegistryConfig, store: Store, keep: int, now_s: float | None = None) -> VersionPlan:
    """Which versions and unregistered runs of killed processes can be removed. Raises `HeartbeatError`.

    Kept are, of each model, the ``keep`` newest versions, those with an alias, champions and former ones, those that a kept
    one was trained or recalibrated from, those recalibrated from a kept one, those that heartbeat did not register, and
    everything younger than a day. In a registry that is not the store's own, only ``config.model_name`` is pruned.
    """
    if is_empty(config, store):
        return VersionPlan()
    from mlflow.exceptions import MlflowException

    check_registry(config, store)
    client = connect(config, store)
    before_ms = 1000 * ((time.time() if now_s is None else now_s) - RECENT_S)
    try:
        models = list(pages(client.search_registered_models))
        versions = {(v.name, int(v.version)): v for v in pages(client.search_model_versions)}
        runs = {run.info.run_id: run for run in _runs(client)}
        reasons = {key: "of another model" for key in versions if not _may_prune(key[0], config, store)}
        for model in models:
            _keep_of_model(client, model, versions, keep, reasons)
    except MlflowException as error:
        raise HeartbeatError(f"the MLflow registry cannot be asked for its versions ({error.message})") from error
    _keep_by_origin(versions, runs, before_ms, reasons)
    unneeded = [version for key, version in versions.items() if key not in reasons]
    removals = [
        Removal(f"{v.name} version {v.version}", runs[v.run_id], _models_of(runs[v.run_id]), v) for v in unneeded
    ]
    registered = {version.run_id for version in versions.values()}
    removals += [
        Removal(f"run {run.info.run_name}, which was not registered", run, _models_of(run))
        for run in runs.values()
        if run.info.run_id not in registered and run.info.start_time < before_ms and _is_left_over(run)
        if _may_prune(run.data.params.get("registry.model_name", ""), config, store)
    ]
    if is_own(config, store):
        _check_inside(client, removals, store)
    removed = {removal.run.info.run_id for removal in removals}
    needed = {digest for run_id, run in runs.items() if run_id not in removed for digest in weights_of(run)}
    had_version = [r.run for r in removals if r.version or PRUNED_TAG in r.run.data.tags]  # another is tried again
    unused = {digest for run in had_version for digest in weights_of(run)} - needed
    kept = tuple((versions[key], runs.get(versions[key].run_id)) for key in reasons)
    return VersionPlan(tuple(removals), frozenset(map(weights_name, unused)), dict(Counter(reasons.values())), kept)


def removal_bytes(removal: Removal, config: RegistryConfig, store: Store) -> int:
    """The bytes of its files in MLflow."""
    client = connect(config, store)
    return sum(size for address in _addresses(client, removal) for size in _file_sizes(address))


def remove_run(removal: Removal, config: RegistryConfig, store: Store) -> None:
    """Remove the version, then the files of its models and of its run. One that is interrupted is planned again.

    Raises `HeartbeatError` when the version has got an alias since it was planned.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client, version = connect(config, store), removal.version
    addresses = _addresses(client, removal)
    with model_lock(version.name, store) if version is not None else nullcontext():
        if version is not None and (aliases := client.get_model_version(version.name, version.version).aliases):
            raise HeartbeatError(
                f"{removal.title} has just become {', '.join(aliases)}: run again to remove the others"
            )
        client.set_tag(removal.run.info.run_id, PRUNED_TAG, "yes")
        if version is not None:
            client.delete_model_version(version.name, version.version)
    for address in addresses:
        get_artifact_repository(address).delete_artifacts()
    for model_id in removal.model_ids:
        client.delete_logged_model(model_id)
    client.delete_run(removal.run.info.run_id)


def _may_prune(name: str, config: RegistryConfig, store: Store) -> bool:
    return is_own(config, store) or name == config.model_name


def _keep_of_model(client: Any, model: Any, versions: dict[Key, Any], keep: int, reasons: dict[Key, str]) -> None:
    """Add to ``reasons`` the versions of ``model`` with an alias, champions and former ones, and the newest."""
    of_model = {key[1]: version for key, version in versions.items() if key[0] == model.name}
    moves = read_champion(client, model.name).moves
    champions = {number for move in moves for number in (move.before, move.after)}
    champions |= {n for n, version in of_model.items() if version.tags.get("promotion.outcome") == "promoted"}
    kept: list[tuple[str, set[Any]]] = [
        ("with an alias", {int(number) for number in model.aliases.values()}),
        ("champions before", champions),
    ]
    kept.append(("newest", set(sorted(of_model, reverse=True)[:keep])))
    for why, numbers in kept:
        for number in numbers & of_model.keys():
            reasons.setdefault((model.name, number), why)


def _keep_by_origin(versions: dict[Key, Any], runs: dict[str, Any], before_ms: float, reasons: dict[Key, str]) -> None:
    """Add to ``reasons`` recent versions, foreign ones, the origins of kept ones, and what was recalibrated from those."""
    of_run = Counter(version.run_id for version in versions.values())
    for key, version in versions.items():
        if version.creation_timestamp > before_ms:
            reasons.setdefault(key, "younger than a day")
        run = runs.get(version.run_id)
        is_ours = KEY_TAG in version.tags and run and version.source.removeprefix("models:/") in _models_of(run)
        if not is_ours or of_run[version.run_id] > 1:
            reasons.setdefault(key, "not registered by a run of heartbeat")
    while True:
        more = {}
        for key, version in versions.items():
            for origin in _origins(version, runs) & versions.keys():
                if key in reasons and origin not in reasons:
                    more[origin] = "origins of kept ones"
                elif origin in reasons and key not in reasons and CALIBRATED_FROM in version.tags:
                    more[key] = "recalibrated from kept ones"
        if not more:
            return
        reasons |= more


def _origins(version: Any, runs: dict[str, Any]) -> set[Key]:
    """The versions that a version was recalibrated from, or that its training started from."""
    run = runs.get(version.run_id)
    started = re.fullmatch(r"models:/([^/@]+)/(\d+)", run.data.tags.get("init", "") if run else "")
    origins = {(started[1], int(started[2]))} if started else set()
    if number := version.tags.get(CALIBRATED_FROM):
        origins.add((version.name, int(number)))
    return origins


def _is_left_over(run: Any) -> bool:
    """Whether a run of heartbeat failed or was killed before it was registered, or its removal was interrupted."""
    unfinished = run.info.status in ("KILLED", "FAILED") and KEY_TAG in run.data.tags
    return PRUNED_TAG in run.data.tags or unfinished


def _models_of(run: Any) -> tuple[str, ...]:
    return tuple(output.model_id for output in run.outputs.model_outputs) if run.outputs else ()


def weights_name(digest: str) -> str:
    """The file in the store of weights with this sha256."""
    return f"models/{digest[:20]}.safetensors"


def weights_of(run: Any) -> set[str]:
    """The sha256 of the files of weights that a run names."""
    tags = run.data.tags
    return {digest for digest in [tags.get(WEIGHTS, ""), *tags.get(MEMBERS_TAG, "").split(",")] if digest}


def _addresses(client: Any, removal: Removal) -> list[str]:
    """Where the files of its models and of its run are; a model that is deleted already has none."""
    from mlflow.exceptions import MlflowException

    addresses = []
    for model_id in removal.model_ids:
        try:
            addresses.append(client.get_logged_model(model_id).artifact_location)
        except MlflowException:
            continue
    return [*addresses, removal.run.info.artifact_uri]


def _check_inside(client: Any, removals: list[Removal], store: Store) -> None:
    """Raise `HeartbeatError` where the store's own registry names files of another folder: those of the original."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    inside = store.workpath("").resolve()
    for removal in removals:
        for address in _addresses(client, removal):
            folder = local_file_uri_to_path(address) if is_local_uri(address) else inside
            if not Path(folder).resolve().is_relative_to(inside):
                raise HeartbeatError(
                    f"the registry of {store.uri} names the files of {removal.title} in another folder, {folder}: the store "
                    "was copied or moved, and can be pruned only at its first place"
                )


def _file_sizes(address: str) -> Iterator[int]:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(address)
    folders: list[str | None] = [None]
    while folders:
        for entry in repository.list_artifacts(folders.pop()):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                yield entry.file_size or 0


def _runs(client: Any) -> Iterator[Any]:
    """Every run that names weights, or was made by heartbeat."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    seen: set[str] = set()
    for tag in (WEIGHTS, KEY_TAG):
        for run in pages(client.search_runs, experiments, f"tags.`{tag}` LIKE '%'"):
            if run.info.run_id not in seen:
                seen.add(run.info.run_id)
                yield run
