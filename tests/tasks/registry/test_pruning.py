"""Old versions of models are removed with their files; champions, their origins and what is not ours are kept."""

import hashlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from heartdata.config import RegistryConfig
from heartdata.dataset.prune import RECENT_S
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry import pruning
from tasks.registry.champion import move_champion, read_champion
from tasks.registry.client import KEY_TAG, connect, experiment_of
from tasks.registry.pruning import CALIBRATED_FROM, MEMBERS_TAG, PRUNED_TAG, WEIGHTS, plan_versions, remove_run

NAME, CONFIG = "heartbeat", RegistryConfig()
LATER_S = RECENT_S + 60
MODEL = """
import mlflow.pyfunc
from mlflow.models import set_model

class Answer(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.text = open(context.artifacts["weights"]).read()

    def predict(self, context, model_input, params=None):
        return [self.text] * len(model_input)

set_model(Answer())
"""


@pytest.fixture
def client(registry_store: Store) -> Any:
    client = connect(CONFIG, registry_store)
    client.create_registered_model(NAME)
    return client


def log_run(client: Any, store: Store, weights: str, tags: dict[str, str], params: dict[str, str], ours: bool) -> Any:
    """A run with a model whose answer is the text ``weights``, which are in the store as well."""
    code = store.workpath("answer.py")
    code.write_text(MODEL)
    file = store.workpath(f"models/{weights}.txt")
    file.parent.mkdir(exist_ok=True)
    file.write_text(weights)
    digest = hashlib.sha256(weights.encode()).hexdigest()
    store.workpath(f"models/{digest[:20]}.safetensors").write_text(weights)
    own = {KEY_TAG: weights, WEIGHTS: digest} if ours else {}
    with mlflow.start_run(experiment_id=experiment_of(client, CONFIG, store), tags=own | tags) as run:
        mlflow.log_params(params)
        mlflow.log_text("table", "tables/t.txt")
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(code), artifacts={"weights": str(file)}, pip_requirements=["mlflow"]
        )
    return run, logged


def register(client: Any, store: Store, weights: str = "", ours: bool = True, version_tags: dict[str, str] | None = None,
             tags: dict[str, str] | None = None, params: dict[str, str] | None = None) -> int:  # fmt: skip
    run, logged = log_run(client, store, weights or f"w{time.time_ns()}", tags or {}, params or {}, ours)
    own = {KEY_TAG: run.info.run_id, "dataset_version": f"data of {weights}"} if ours else {}
    version = client.create_model_version(
        NAME, logged.model_uri, run.info.run_id, model_id=logged.model_id, tags=own | (version_tags or {})
    )
    return int(version.version)


def planned(store: Store, keep: int) -> pruning.VersionPlan:
    return plan_versions(CONFIG, store, keep, now_s=time.time() + LATER_S)


def numbers(plan: pruning.VersionPlan) -> list[int]:
    return sorted(int(removal.version.version) for removal in plan.removals if removal.version)


def stored(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def answer(version: int) -> str:
    return mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict(pd.DataFrame({"a": [1]}))[0]


def test_files_of_old_versions_are_gone_and_a_kept_one_predicts(client: Any, registry_store: Store):
    store = registry_store
    for weights in ("one", "two", "three"):
        register(client, store, weights)
    assert plan_versions(CONFIG, store, 1).removals == ()  # all are younger than a day
    plan = planned(store, 1)
    assert numbers(plan) == [1, 2]
    assert plan.kept == {"newest": 1}
    assert [version.tags["dataset_version"] for version, _ in plan.versions] == ["data of three"]
    sizes = [pruning.removal_bytes(removal, CONFIG, store) for removal in plan.removals]
    before = stored(store)
    size_before = sum(path.stat().st_size for path in (store.root / "mlflow-artifacts").rglob("*") if path.is_file())
    for removal in plan.removals:
        remove_run(removal, CONFIG, store)
    gone = before - stored(store)
    size_after = sum(path.stat().st_size for path in (store.root / "mlflow-artifacts").rglob("*") if path.is_file())
    assert sum(sizes) == size_before - size_after > 0
    assert gone
    assert all(name.startswith("mlflow-artifacts/") for name in gone)
    runs = {removal.run.info.run_id for removal in plan.removals}
    assert not [name for name in stored(store) if name.split("/")[1:2] and name.split("/")[1] in runs]
    assert len(plan.weights) == 2
    with pytest.raises(MlflowException):
        answer(1)
    assert answer(3) == "three"
    assert planned(store, 1).removals == ()


def test_a_copied_store_does_not_remove_the_files_of_the_original(client: Any, registry_store: Store, tmp_path: Path):
    for weights in ("one", "two"):
        register(client, registry_store, weights)
    copy = Store(shutil.copytree(registry_store.root, tmp_path / "copy"))
    with pytest.raises(HeartbeatError, match="keeps its files in .*, so the store was moved or copied"):
        planned(copy, 1)
    assert numbers(planned(registry_store, 1)) == [1]


def test_champions_aliases_origins_and_recalibrated_versions_are_kept(client: Any, registry_store: Store):
    store = registry_store
    for _ in range(3):
        register(client, store)  # 1, 2, 3
    move_champion(client, NAME, 1, "rule", "first", store)
    move_champion(client, NAME, 2, "rule", "better", store)
    client.set_registered_model_alias(NAME, "paper", "3")
    register(client, store)  # 4: nothing keeps it
    register(client, store, version_tags={"promotion.outcome": "promoted"})  # 5
    register(client, store)  # 6: the origin of 8
    register(client, store, version_tags={CALIBRATED_FROM: "1"})  # 7
    register(client, store, tags={"init": f"models:/{NAME}/6"})  # 8
    register(client, store, version_tags={CALIBRATED_FROM: "4"})  # 9: recalibrated from one that goes
    client.set_registered_model_alias(NAME, "challenger", "8")
    register(client, store, ours=False)  # 10: a person's
    register(client, store)  # 11: the origin of 12, which its settings named by an alias
    register(client, store, tags={"init": f"models:/{NAME}/11"}, params={"training.init": f"models:/{NAME}@challenger"})
    assert numbers(planned(store, 1)) == [4, 9]


def test_weights_that_a_kept_run_needs_and_foreign_runs_are_kept(client: Any, registry_store: Store):
    store = registry_store
    shared, alone, member = (hashlib.sha256(text.encode()).hexdigest() for text in ("shared", "alone", "member"))
    (store.root / "models").mkdir()
    (store.root / f"models/{member[:20]}.safetensors").write_text("member")
    register(client, store, "shared")
    register(client, store, "alone", tags={MEMBERS_TAG: f"{shared},{member}"})
    register(client, store, "newest", tags={MEMBERS_TAG: shared})
    _, foreign = log_run(client, store, "foreign", {}, {}, ours=False)
    plan = planned(store, 1)
    assert numbers(plan) == [1, 2]
    assert plan.weights == {f"models/{digest[:20]}.safetensors" for digest in (alone, member)}
    for removal in plan.removals:
        remove_run(removal, CONFIG, store)
    assert mlflow.pyfunc.load_model(foreign.model_uri).predict(pd.DataFrame({"a": [1]})) == ["foreign"]


def test_an_interrupted_removal_and_runs_that_were_killed_are_finished(
    client: Any, registry_store: Store, monkeypatch: pytest.MonkeyPatch
):
    store = registry_store
    register(client, store, "one")
    register(client, store, "two")
    killed, _ = log_run(client, store, "killed", {}, {}, ours=True)
    client.set_terminated(killed.info.run_id, "KILLED")
    finished, _ = log_run(client, store, "finished", {}, {}, ours=True)  # somebody deleted its version
    removals = {removal.run.info.run_id: removal for removal in planned(store, 1).removals}
    assert finished.info.run_id not in removals
    assert removals.pop(killed.info.run_id).title.endswith("which was not registered")
    (old,) = removals.values()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(connect(CONFIG, store)), "delete_logged_model", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_run(old, CONFIG, store)
    (again,) = (r for r in planned(store, 1).removals if r.run.info.run_id == old.run.info.run_id)
    assert client.get_run(old.run.info.run_id).data.tags[PRUNED_TAG] == "yes"
    assert again.version is None
    remove_run(again, CONFIG, store)
    assert old.run.info.run_id not in {r.run.info.run_id for r in planned(store, 1).removals}


def test_a_version_that_became_champion_since_the_plan_is_not_removed(client: Any, registry_store: Store):
    for weights in ("one", "two"):
        register(client, registry_store, weights)
    (removal,) = planned(registry_store, 1).removals
    move_champion(client, NAME, 1, "person", "better after all", registry_store)
    with pytest.raises(HeartbeatError, match="heartbeat version 1 has just become champion: run again"):
        remove_run(removal, CONFIG, registry_store)
    assert answer(1) == "one"


def test_a_version_is_not_promoted_while_it_is_removed(
    client: Any, registry_store: Store, monkeypatch: pytest.MonkeyPatch
):
    for weights in ("one", "two"):
        register(client, registry_store, weights)
    move_champion(client, NAME, 2, "rule", "better", registry_store)
    (removal,) = planned(registry_store, 1).removals
    delete, promotions = type(client).delete_model_version, []

    def delete_during_a_promotion(*arguments: Any) -> None:
        promotions.append(pool.submit(move_champion, client, NAME, 1, "person", "after all", registry_store))
        wait(promotions, timeout=1)
        delete(*arguments)

    monkeypatch.setattr(type(client), "delete_model_version", delete_during_a_promotion)
    with ThreadPoolExecutor() as pool:
        remove_run(removal, CONFIG, registry_store)
    with pytest.raises(MlflowException, match="version=1"):
        promotions[0].result()
    assert read_champion(client, NAME).version == 2


def test_in_a_shared_registry_only_the_configured_model_is_pruned(
    client: Any, registry_store: Store, monkeypatch: pytest.MonkeyPatch
):
    for weights in ("one", "two"):
        register(client, registry_store, weights)
    for model_name in (NAME, "other"):
        killed, _ = log_run(client, registry_store, model_name, {}, {"registry.model_name": model_name}, ours=True)
        client.set_terminated(killed.info.run_id, "KILLED")
    monkeypatch.setattr(pruning, "is_own", lambda config, store: False)
    plan = planned(registry_store, 1)
    assert numbers(plan) == [1]
    assert [r.run.data.params["registry.model_name"] for r in plan.removals if not r.version] == [NAME]
    other = CONFIG.model_copy(update={"model_name": "other"})
    plan = plan_versions(other, registry_store, 1, now_s=time.time() + LATER_S)
    assert [removal.version for removal in plan.removals] == [None]
    assert plan.kept == {"of another model": 2}


def test_an_empty_registry_has_nothing_to_prune(store: Store):
    assert plan_versions(CONFIG, store, 1).removals == ()
    assert not Path(store.workpath("mlflow.db")).exists()
