"""A change of the code behind a stage's version is noticed, and every module is assigned to a stage or to none."""

import ast
import json
from pathlib import Path

import pytest
import stage_code
from stage_code import RECORD, ROOT, changes, code_of, digest

from heartdata.audio.decode import LIBRARIES
from heartdata.audio.measurements import MeasureConfig, facts_folder
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.spectrogram_shards import shards_folder
from heartdata.dataset.splits import SplitConfig
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store
from tasks.engine.versions import STAGES, Code
from tasks.measure import measure_shard
from tasks.spectrograms import spectrogram_shard
from tasks.split import split

# Packages and modules of heartdata that compute no cached result, but for modules that belong to a stage.
NOTHING_CACHED = (
    # settings, which are in cache keys themselves, and the versions
    "config", "config_file", "dataset.retraining", "serving.model_config", "settings", "training.pretraining",
    "training.recipe", "versions",
    # computed in every run: the inventory, the results of a study over its folds, the summary, decisions
    "dataset.inventory", "reports.curve_plot", "reports.explanation", "scoring.comparison",
    "scoring.learning_curve", "scoring.promotion", "sources", "storage.hash_cache", "studies",
    # the store
    "errors", "processes", "storage.locks", "storage.migrations", "storage.remote", "storage.schema_version", "storage.sqlite",
    "storage.store", "storage.usage", "storage.working_folder",
    # commands of their own
    "dataset.prune", "machine", "markdown", "storage.backup_archive", "reports.inspect", "reports.inspect_plots",
    "scoring.adaptation", "serving.export", "serving.formats", "serving.recalibration", "serving.reproduction",
)  # fmt: skip
OTHER_FILES = {"heartdata/serving/export.md"}  # of commands of their own

CODE = """
'''A module.'''
import os

def double(number):
    '''Twice the number.'''
    from sys import path
    return 2 * number  # no more
"""


def test_the_code_of_each_stage_is_as_recorded():
    assert changes(json.loads(RECORD.read_text())) == []


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [
        ("2 * number", "3 * number", True),
        ("double(number)", "double(number=1)", True),
        ("return 2", "number += 1; return 2", True),
        ("# no more", "# no less", False),
        ("Twice the", "Double the", False),
        ("A module", "Another", False),
        ("return 2 * number", "return (2\n        * number)", False),
        ("import os", "import json", False),
        ("from sys", "from os", False),
    ],
)
def test_changes_of_code_are_noticed_and_those_of_comments_are_not(old: str, new: str, noticed: bool):
    assert old in CODE
    assert (digest(CODE.replace(old, new)) != digest(CODE)) is noticed


def test_a_changed_module_is_named_until_it_is_recorded(tmp_path: Path, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / f"{name}.py").write_text(CODE + f"{name} = 1\n")
    modules = ("package.one", "package.other")
    monkeypatch.setattr(stage_code, "ROOT", tmp_path)
    monkeypatch.setattr(stage_code, "RECORD", tmp_path / "code.json")
    monkeypatch.setattr(stage_code, "STAGES", {"a": Code("1", modules), "b": Code("1", modules[:1])})

    def sentences() -> list[str]:
        return changes(json.loads((tmp_path / "code.json").read_text()))

    stage_code.main()
    assert sentences() == []
    (tmp_path / "package" / "other.py").write_text(CODE + "other = 2\n")
    (sentence,) = sentences()
    assert "stage 'a' changed (package.other): raise its version" in sentence
    assert "python tests/stage_code.py" in sentence
    stage_code.main()
    assert sentences() == []
    monkeypatch.setattr(stage_code, "STAGES", {"a": Code("1", modules[:1]), "b": Code("1", modules[:1])})
    assert "a module that was removed" in sentences()[0]


def test_a_changed_template_is_named(tmp_path: Path, monkeypatch):
    template = tmp_path / "package" / "page.html"
    template.parent.mkdir()
    template.write_text("<p>one</p>\n")
    monkeypatch.setattr(stage_code, "ROOT", tmp_path)
    monkeypatch.setattr(stage_code, "STAGES", {"a": Code("1", ("package/page.html",))})
    recorded = {"a": sorted(code_of(("package/page.html",)).values())}
    assert changes(recorded) == []
    template.write_text("<p>two</p>\n")
    (sentence,) = changes(recorded)
    assert "stage 'a' changed (package/page.html): raise its version" in sentence


def test_every_module_belongs_to_a_stage_or_computes_nothing_cached():
    files = (path for path in (ROOT / "heartdata").rglob("*.py") if path.name != "__init__.py")
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    of_stages = {name for code in STAGES.values() for name in code.modules if name.startswith("heartdata.")}
    others = {f"heartdata.{name}" for name in NOTHING_CACHED}
    unassigned = {name for name in modules - of_stages if not any(f"{name}.".startswith(f"{o}.") for o in others)}
    assert unassigned == others & of_stages == of_stages - modules == set()
    assert all(stage_code.path_of(name).is_file() for name in others)


def test_every_template_and_style_sheet_belongs_to_a_stage_or_makes_nothing_cached():
    files = [path for path in (ROOT / "heartdata").rglob("*") if path.suffix in {".css", ".html", ".js", ".md"}]
    found = {str(path.relative_to(ROOT)) for path in [*files, *(ROOT / "mlflow").glob("*.md")]}
    assert found == {name for code in STAGES.values() for name in code.modules if "/" in name} | OTHER_FILES


def test_every_task_that_is_a_stage_has_its_own_module_in_the_table():
    declared = set()
    for path in (ROOT / "tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for call in (d for d in node.decorator_list if isinstance(d, ast.Call)):
                    if getattr(call.func, "id", "") == "stage":
                        stage = ast.literal_eval(call.args[0])
                        declared.add(stage)
                        assert path in {stage_code.path_of(name) for name in STAGES[stage].modules}
    assert declared | {"champion predictions", "demo recordings", "scores"} == set(STAGES)
    assert all(code_of(code.modules) for code in STAGES.values())


def test_the_decoders_versions_are_in_the_keys_of_what_decodes(store: Store, monkeypatch):
    def keys() -> list[str]:
        shard = Shard(0, (("ab" * 32, "/a.wav"),))
        accepted = Artifact(name="a", digest="d", rows=1)
        return [
            measure_shard.cache_policy.first_key({"shard": shard, "config": MeasureConfig(), "store": store}),
            spectrogram_shard.cache_policy.first_key({"shard": shard, "config": SpectrogramConfig(), "store": store}),
            facts_folder(MeasureConfig()),
            shards_folder(SpectrogramConfig()),
            split.cache_policy.first_key({"accepted": accepted, "config": SplitConfig(), "store": store}),
        ]

    before = keys()
    assert set(LIBRARIES) == {"libsndfile", "libsoxr"}
    assert keys() == before
    for name in LIBRARIES:
        with monkeypatch.context() as other:
            other.setitem(LIBRARIES, name, "another")
            assert [one == two for one, two in zip(before, keys(), strict=True)] == [False] * 4 + [True]
