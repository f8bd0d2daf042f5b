"""The stage `promote`: what the models are compared on, what becomes of the decision, and when there is none."""

import json
from collections.abc import Callable
from typing import Any

import mlflow
import pandas as pd
import pytest

from heartdata.config import RunConfig
from heartdata.scoring import promotion
from heartdata.scoring.promotion import Decision, Gate
from heartdata.storage.schemas import FACTS, MANIFEST, RECORDINGS, SLICE_ATTRIBUTES, TRAINED_ON, predictions_schema
from heartdata.storage.store import Artifact, Store, table_from_rows
from tasks import champion_predictions, promote
from tasks.engine import progress
from tasks.registry import champion as champions
from tasks.registry.champion import move_champion, settled_champion
from tasks.registry.client import connect
from tasks.registry.previous import PROVENANCE_FOLDER, SERIES_TAG
from tasks.results import Evaluation, RegisteredVersion

CLASSES = ["murmur", "normal"]
PROMOTED = Decision(
    outcome="promoted", reason="macro-F1 .80 against .60", subjects=3, recordings=3,
    gates=(Gate(name="over the champion", value=0.1, bound=0.0, passed=True),
           Gate(name="sensitivity of a/b: c", value=None, bound=0.5, passed=False)),
)  # fmt: skip
KEPT = Decision(outcome="kept", reason="macro-F1 .60 against .60")

LOAD = champion_predictions._load


class Night:
    """A store with a registry, in which versions are registered and decided on without training."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.config = store, RunConfig.model_validate({"source": {"name": "demo"}, "store": store.uri})
        self.name = self.config.registry.model_name
        self.client: Any = connect(self.config.registry, store)
        self.client.create_registered_model(self.name)
        self.experiment = self.client.create_experiment("e", store.workpath("mlflow-artifacts").as_uri())
        self.decisions: list[Decision | Callable[[], Decision]] = []
        self.compared: list[dict[str, Any]] = []
        self.scored: list[list[str]] = []
        monkeypatch.setattr(promotion, "decide", self._decide, raising=False)
        monkeypatch.setattr(champion_predictions, "_load", self._load)
        monkeypatch.setattr(champion_predictions, "_predict", self._predict)
        progress.clear_notes()

    def _decide(self, challenger, baselines, champion, attributes, classes, *_) -> Decision:
        self.compared.append({"challenger": challenger, "champion": champion, "baselines": baselines})
        decision = self.decisions.pop(0)
        return decision if isinstance(decision, Decision) else decision()

    def _load(self, version: Any, *_: Any) -> Any:
        class Predictor:
            class config:
                classes = tuple(CLASSES)

        return Predictor

    def _predict(self, predictor: Any, rows: pd.DataFrame, *_: Any) -> list[dict[str, Any]]:
        self.scored.append(rows["sha256"].tolist())
        return [{"sha256": s, "prediction": "normal", "p_murmur": 0.4, "p_normal": 0.6,
                 "error": "too short" if s == "short" else None} for s in rows["sha256"]]  # fmt: skip

    def table(self, folder: str, rows: list[dict[str, Any]], schema: Any) -> Artifact:
        return self.store.write_table(folder, table_from_rows(rows, schema), schema)

    def version(
        self, trained_on: list[str] | None = None, series: str = "s", tested_on: list[str] | None = None
    ) -> int:
        """Register a version; ``trained_on``: None for one that does not say."""
        with mlflow.start_run(experiment_id=self.experiment) as run:
            if trained_on is not None:
                mlflow.log_artifact(str(self.store.local(self.sounds(trained_on).name)), PROVENANCE_FOLDER)
            if tested_on is not None:
                manifest = self.store.local(self.data(tested_on, "earlier")[0].name)
                (manifest.parent / "manifest.parquet").write_bytes(manifest.read_bytes())
                mlflow.log_artifact(str(manifest.parent / "manifest.parquet"), "tables")
        made = self.client.create_model_version(
            self.name, source=self.store.uri, run_id=run.info.run_id, tags={SERIES_TAG: series}
        )
        return int(made.version)

    def sounds(self, names: list[str]) -> Artifact:
        rows = [{"sha256": n, "samples_sha256": f"samples {n}", "subject": f"table/p {n}"} for n in names]
        return self.table("provenance", rows, TRAINED_ON)

    def data(self, tested: list[str], folder: str = "manifest") -> tuple[Artifact, Artifact, Artifact]:
        """Manifest, facts and recordings of a test part: ``a2`` is a second recording of subject p a, and so on."""
        manifest = [
            {"recording_id": f"{n}.wav", "sha256": n, "source": "table", "subject": f"p {n[0]}", "group": f"p {n[0]}",
             "label": "normal", "part": "test"}
            for n in tested
        ]  # fmt: skip
        facts = [{"sha256": n, "samples_sha256": f"samples {n}"} for n in tested]
        listed = [{"recording_id": f"{n}.wav", "uri": f"/{n}.wav", "sha256": n} for n in tested]
        return (
            self.table(folder, manifest, MANIFEST), self.table("facts", facts, FACTS),
            self.table("recordings", listed, RECORDINGS),
        )  # fmt: skip

    def decide(
        self, version: int, decision: Any = None, tested: tuple[str, ...] = ("a", "b", "c"),
        trained_on: tuple[str, ...] = ("x",), **changes: Any,
    ) -> promote.Promotion:  # fmt: skip
        """Run the stage for a version; the rules will return ``decision``."""
        self.decisions = [] if decision is None else decision if isinstance(decision, list) else [decision]
        manifest, facts, recordings = self.data(list(tested))
        schema = predictions_schema(CLASSES)
        rows = [{"recording_id": f"{n}.wav", "sha256": n, "group": f"p {n[0]}", "label": "normal",
                 "prediction": "normal", "p_murmur": 0.3, "p_normal": 0.7} for n in tested]  # fmt: skip
        predictions = self.table("predictions", rows, schema)
        per_class = {name: {"recordings": 1.0} for name in CLASSES}
        evaluation = Evaluation(predictions=predictions, subjects=predictions, metrics=predictions, per_class=per_class,
                                confidence={}, baselines={"majority class": predictions}, plots={})  # fmt: skip
        attributes = self.table("slices", [{"recording_id": f"{n}.wav"} for n in tested], SLICE_ATTRIBUTES)
        run_id = self.client.get_model_version(self.name, str(version)).run_id
        registered = RegisteredVersion(
            name=self.name, version=version, run_id=run_id, url="", registry=self.config.registry
        )
        config = RunConfig.model_validate({**self.config.model_dump(exclude_unset=True), **changes})
        return promote.promote.fn(
            registered,
            recordings,
            manifest,
            facts,
            self.sounds(list(trained_on)),
            evaluation,
            attributes,
            config,
            self.store,
        )

    @property
    def champion(self) -> int | None:
        return settled_champion(self.client, self.name, self.store).version

    def tags(self, version: int) -> dict[str, str]:
        return self.client.get_model_version(self.name, str(version)).tags


@pytest.fixture
def night(registry_store: Store, monkeypatch: pytest.MonkeyPatch) -> Night:
    return Night(registry_store, monkeypatch)


def test_the_decision_moves_the_alias_and_is_kept_with_the_version(night: Night):
    first, second = night.version(["x"]), night.version(["x"])
    assert not night.decide(first, PROMOTED).nothing_new
    assert night.champion == first
    result = night.decide(second, KEPT)
    assert night.champion == first
    assert (result.decision.challenger, result.decision.champion) == (second, first)
    tags = night.tags(first)
    assert tags["promotion.outcome"] == "promoted"
    assert tags["promotion.reason"] == PROMOTED.reason
    assert tags["promotion.gate.over the champion"] == "0.100 0.000 passed"
    assert "unknown 0.500 failed" in tags.values()
    run = night.client.get_model_version(night.name, str(first)).run_id
    assert mlflow.artifacts.load_dict(f"runs:/{run}/decision.json")["outcome"] == "promoted"
    latest = json.loads(night.store.workpath("latest/decision.json").read_text())
    assert (latest["outcome"], latest["champion"]) == ("kept", first)
    move = settled_champion(night.client, night.name, night.store).moves[-1]
    assert (move.by, move.reason) == ("rule", PROMOTED.reason)


def test_both_are_compared_on_what_neither_was_trained_on(night: Night):
    night.decide(night.version(["a", "x"]), PROMOTED)
    tested = ("a2", "b", "c", "c2", "d", "short")  # c2: of the challenger's training
    night.decide(night.version(["c2"]), KEPT, tested=tested, trained_on=("c2",))
    compared = night.compared[-1]
    assert compared["champion"]["sha256"].tolist() == ["b", "d"]  # a2 is of a trained subject, c of that of c2
    assert len(compared["challenger"]) == len(tested)
    assert compared["champion"]["p_normal"].tolist() == [0.6, 0.6]
    assert list(compared["baselines"]) == ["majority class"]


def test_a_champion_predicts_a_recording_once(night: Night):
    night.decide(night.version(["x"]), PROMOTED)
    night.decide(night.version(["x"]), KEPT)
    night.decide(night.version(["x"]), KEPT, tested=("a", "b", "c", "d"))
    assert night.scored == [["a", "b", "c"], ["d"]]
    assert night.compared[-1]["champion"]["sha256"].tolist() == ["a", "b", "c", "d"]


def test_a_champion_of_unknown_provenance_stays(night: Night):
    night.decide(night.version(None), PROMOTED)
    decision = night.decide(night.version(["x"])).decision
    assert decision.outcome == "cannot decide"
    assert decision.reason == "the champion stays: the champion, version 1, does not say what it was trained on"


def test_a_champion_that_cannot_be_loaded_stays_and_is_tried_again(night: Night, monkeypatch):
    night.decide(night.version(["x"]), PROMOTED)
    second = night.version(["x"])
    with monkeypatch.context() as patch:
        patch.setattr(champion_predictions, "_load", LOAD)
        decision = night.decide(second).decision  # there are no files of a model
    assert decision.outcome == "cannot decide"
    assert "version 1, cannot be loaded: " in decision.reason
    assert not night.decide(second, PROMOTED).nothing_new
    assert night.champion == second


def test_a_champion_whose_provenance_cannot_be_read_stays_and_is_tried_again(night: Night):
    night.decide(night.version(["x"]), PROMOTED)
    (table,) = night.store.workpath("mlflow-artifacts").rglob(f"{PROVENANCE_FOLDER}/*.parquet")
    whole = table.read_bytes()
    table.write_bytes(b"torn")
    second = night.version(["x"])
    decision = night.decide(second).decision
    assert decision.outcome == "cannot decide"
    assert "the list of what it was trained on cannot be read (" in decision.reason
    table.write_bytes(whole)
    night.decide(second, PROMOTED)
    assert night.champion == second


def test_a_choice_made_before_a_new_version_was_decided_on_is_said(night: Night):
    night.decide(night.version(["x"]), PROMOTED)
    second = night.version(["x"])
    move_champion(night.client, night.name, second, "person", "heard both", night.store)  # while the run was at work
    result = night.decide(second)
    assert result.nothing_new.startswith("heartbeat-demo version 2 is not compared; the champion is version 2, which ")
    night.client.delete_registered_model_alias(night.name, "champion")
    assert "; there is no champion, as somebody decided on 20" in night.decide(second).nothing_new


def test_models_of_other_series_are_compared_on_recordings_held_out_from_both(night: Night):
    night.decide(night.version(["x"], series="s", tested_on=["b", "z"]), PROMOTED)
    night.decide(night.version(["x"], series="t"), KEPT)
    assert night.compared[-1]["champion"]["sha256"].tolist() == ["b"]
    assert "of another source or series than" in progress.notes()[-1]
    assert "on the 1 recordings that were held out from both" in progress.notes()[-1]


FEW = Decision(
    outcome="cannot decide", reason="too few", gates=(Gate(name="held-out subjects", value=2, bound=3, passed=False),)
)  # fmt: skip
DRAWN = "draws another test part when recordings are added: set split.strategy=hash"


@pytest.mark.parametrize(
    ("has_champion", "min_subjects", "strategy", "series", "remedy"),
    [
        (False, 3, "subject", "s", "choose it yourself (heartbeat champion promote 1 --model heartbeat-demo --reason ...)"),
        (False, 3, "hash", "s", "or lower promotion.min_subjects"),
        (True, 4, "subject", "s", "choose it yourself (heartbeat champion promote 2 --model heartbeat-demo"),
        (True, 3, "subject", "s", f"split.strategy=subject {DRAWN}"),
        (True, 3, "blocks", "s", f"split.strategy=blocks {DRAWN}"),
        (True, 3, "hash", "s", ""),
        (True, 3, "subject", "of other data", ""),
    ],
)  # fmt: skip
def test_too_few_held_out_subjects_have_a_remedy(
    has_champion: bool, min_subjects: int, strategy: str, series: str, remedy: str, night: Night
):
    if has_champion:
        night.decide(night.version(["x"], tested_on=["a"]), PROMOTED)
    version = night.version(["x"], series=series)
    settings = {"split": {"strategy": strategy}, "promotion": {"min_subjects": min_subjects}}
    reason = night.decide(version, FEW, **settings).decision.reason
    assert remedy in reason
    assert reason.startswith("too few" + ("; " if remedy else ""))
    assert bool(remedy) == (reason != "too few")
    if remedy:
        assert night.tags(version)["promotion.reason"] == reason


def test_fewer_needed_subjects_are_no_remedy_where_other_gates_failed(night: Night):
    ece = Gate(name="ECE", value=0.4, bound=0.25, passed=False)
    reason = night.decide(night.version(["x"]), FEW.model_copy(update={"gates": (*FEW.gates, ece)})).decision.reason
    assert reason.endswith("--reason ...)")


def test_a_night_with_nothing_new_decides_nothing_and_moves_nothing(night: Night):
    first, second = night.version(["x"]), night.version(["x"])
    night.decide(first, PROMOTED)
    kept = night.decide(second, KEPT).decision
    moves = settled_champion(night.client, night.name, night.store).moves
    for version, decision in ((second, kept), (first, None)):
        again = night.decide(version)  # the rules are not asked
        assert again.nothing_new.startswith(f"Nothing new since heartbeat-demo version {version} of 20")
        assert again.nothing_new.endswith("; the champion is version 1")
        assert decision is None or again.decision == decision
    assert settled_champion(night.client, night.name, night.store).moves == moves
    changed = night.decide(second, PROMOTED, promotion={"level": 0.6})  # other rules are new
    assert (changed.nothing_new, night.champion) == ("", second)
    assert "promotion.gate.over the champion" in night.tags(second)


def test_a_persons_choice_stands_until_a_new_version_is_better(night: Night):
    first, second = night.version(["x"]), night.version(["x"])
    night.decide(first, PROMOTED)
    night.decide(second, PROMOTED)
    move_champion(night.client, night.name, first, "rollback", "false alarms", night.store)
    again = night.decide(second)
    assert night.champion == first
    assert "the champion is version 1, which " in again.nothing_new
    assert "(false alarms)" in again.nothing_new
    night.client.set_registered_model_alias(night.name, "champion", str(second))  # another, in MLflow itself
    assert night.decide(first).nothing_new
    assert night.champion == second
    third = night.version(["x"])
    night.decide(third, PROMOTED)
    assert night.champion == third


def test_a_champion_that_changed_meanwhile_is_compared_again(night: Night):
    first, second, third = (night.version(["x"]) for _ in range(3))
    night.decide(first, PROMOTED)

    def other_run_wins() -> Decision:
        move_champion(night.client, night.name, second, "rule", "faster", night.store)
        return PROMOTED

    decision = night.decide(third, [other_run_wins, KEPT]).decision
    assert not [name for name in night.tags(third) if name.startswith("promotion.gate.")]  # of the first comparison
    assert (decision.outcome, decision.champion, night.champion) == ("kept", second, second)
    assert night.tags(third)["promotion.outcome"] == "kept"


class Killed(BaseException):
    """The process ends at this call."""


@pytest.mark.parametrize("place", ["tags", "begun", "moved", "done"])
def test_a_killed_promotion_is_completed_by_the_next_run(place: str, night: Night, monkeypatch):
    first, second = night.version(["x"]), night.version(["x"])
    night.decide(first, PROMOTED)

    def killed(*_: Any) -> None:
        raise Killed

    where: dict[str, tuple[Any, str]] = {
        "tags": (promote, "move_champion"), "begun": (champions, "_complete"), "moved": (champions, "_record"),
        "done": (night.client, "delete_registered_model_tag"),
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(*where[place], killed)
        patch.setattr(promote, "connect", lambda *_: night.client)
        with pytest.raises(Killed):
            night.decide(second, PROMOTED)
    result = night.decide(second, PROMOTED if place == "tags" else None)
    assert bool(result.nothing_new) == (place != "tags")
    assert result.decision.outcome == "promoted"
    assert night.champion == second
    assert len(settled_champion(night.client, night.name, night.store).moves) == 2


def test_the_alias_champion_of_registry_aliases_follows_every_new_version(night: Night):
    aliases = {"registry": {"aliases": ["champion"]}}
    first, second = night.version(["x"]), night.version(["x"])
    for version in (first, second):
        night.decide(version, **aliases)
        assert night.champion == version
    move_champion(night.client, night.name, first, "person", "better for fine-tuning", night.store)
    assert night.decide(second, **aliases).nothing_new
    assert night.champion == first
