"""heartdata as a library: light to import, typed, described in docs/api.md, and its examples print what docs/library.md says."""

import contextlib
import inspect
import io
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from api_page import COMMAND, PAGE, ROOT, api_page
from setuptools import Distribution

import heartdata
from heartdata import Heart, SpectrogramConfig, synthesize
from heartdata.serving.model_config import ModelConfig
from heartdata.training.network import build_net, weights_bytes
from heartdata.versions import PREPROCESSING

LIBRARY = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```\n\n```text\n(.*?)^```$", LIBRARY, re.M | re.S
)
HEAVY = (
    "torch",
    "fastai",
    "librosa",
    "pandas",
    "numpy",
    "pyarrow",
    "pydantic",
    "scipy",
    "sklearn",
    "great_expectations",
)


def test_import_loads_nothing_heavy_and_a_name_only_what_it_needs():
    code = (
        "import sys, heartdata\n"
        "def loaded(): return [m for m in sys.argv[1:] if m in sys.modules]\n"
        "print(loaded(), 'log_mel' in dir(heartdata)); heartdata.BadAudio, heartdata.log_mel; print(loaded())"
    )
    ran = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.splitlines() == ["[] True", "['numpy', 'pydantic', 'scipy']"]


def test_a_name_that_does_not_exist_is_no_attribute():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = heartdata.no_such_name  # type: ignore[attr-defined]


def test_the_api_page_is_that_of_the_code():
    assert PAGE.read_text(encoding="utf-8") == api_page(), f"run {COMMAND}"


def test_no_two_headings_of_the_api_page_have_one_anchor_and_no_text_is_taken_for_html():
    page = re.sub(r"^```.*?^```$|`[^`]*`", "", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert [name for name, count in Counter(re.findall(r"^#+ (.*)$", page.lower(), re.M)).items() if count > 1] == []
    assert "<" not in page


@pytest.mark.parametrize("name", heartdata.__all__)
def test_each_name_is_described_with_the_shapes_of_its_arrays(name: str):
    thing = getattr(heartdata, name)
    description = inspect.getdoc(thing) or ""
    assert description.partition("\n\n")[0].endswith((".", ":"))
    if re.search(r"numpy\.ndarray|ArrayLike", str(inspect.get_annotations(thing))):
        assert "shape" in description


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The recording that the first example writes, and a model of which each prediction is 9 to 1 for a murmur."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    sound = synthesize(Heart.draw("murmur", rng), duration_s=10, site=0, rng=rng)
    soundfile.write(folder / "recording.wav", sound.samples, sound.rate_hz)
    config = ModelConfig(
        classes=("murmur", "normal"), width=64, spectrogram=SpectrogramConfig(), preprocessing=PREPROCESSING,
        dataset_version="0", init="random",
    )  # fmt: skip
    net = build_net(2)
    with torch.no_grad():
        net.get_parameter("fc.weight").zero_()
        net.get_parameter("fc.bias").copy_(torch.tensor([0.9, 0.1]).log())
    (folder / "model").mkdir()
    (folder / "model" / "weights.safetensors").write_bytes(weights_bytes(net))
    (folder / "model" / "config.json").write_text(config.model_dump_json())
    return folder


@pytest.mark.parametrize(("code", "output"), [pytest.param(*rest, id=title) for title, *rest in EXAMPLES])
def test_the_example_prints_what_the_page_says(code: str, output: str, folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/library.md", "exec"), {"__name__": "example"})
    assert printed.getvalue() == output


def test_no_example_is_left_out():
    assert len(EXAMPLES) == LIBRARY.count("```python") == 5


def test_a_built_package_has_the_types():
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}  # of a source distribution
    files = build.find_data_files("heartdata", str(ROOT / "heartdata"))
    assert {Path(file).name for file in files} == {"__init__.pyi", "py.typed"}


@pytest.mark.slow  # a minute without a cache
def test_a_type_checker_knows_the_names_and_finds_mistakes(tmp_path: Path):
    for number, (_, code, _) in enumerate(EXAMPLES):
        (tmp_path / f"example_{number}.py").write_text(code)
    (tmp_path / "wrong.py").write_text("import heartdata\n\nheartdata.log_mel('a.wav', 4000)\nheartdata.decoded(b'')\n")
    files = sorted(map(str, tmp_path.glob("*.py")))
    ran = subprocess.run([sys.executable, "-m", "mypy", *files], capture_output=True, text=True, cwd=ROOT)
    errors = [line for line in ran.stdout.splitlines() if ": error:" in line]
    assert ["wrong.py:3" in errors[0], "wrong.py:4" in errors[1], len(errors)] == [True, True, 2], ran.stdout
    assert 'Argument 1 to "log_mel" has incompatible type "str"' in errors[0]
    assert 'has no attribute "decoded"' in errors[1]
