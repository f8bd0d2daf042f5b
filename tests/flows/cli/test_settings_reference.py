"""docs/settings-reference.md is what its command prints, and each setting has a meaning."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.settings_reference import settings_reference
from heartdata.config import RunConfig
from heartdata.settings import describe_settings
from heartdata.sources import SOURCES

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "settings-reference.md"
COMMAND = ".venv/bin/python -m flows.cli.settings_reference > docs/settings-reference.md"
DATA = {"data": "recordings", "sources": [{"name": "demo"}]}


def settings_of(source: str) -> list[tuple[str, object, str]]:
    """Dotted name, value and description of every setting of a run with this source."""
    fields = SOURCES[source].model_fields
    values = {key: value for key, value in DATA.items() if key in fields}
    return list(describe_settings(RunConfig.model_validate({"source": {"name": source, **values}})))


def test_the_page_is_what_the_command_prints(monkeypatch):
    monkeypatch.setenv("HEARTBEAT_STORE", "elsewhere")  # the page is the same on every machine
    monkeypatch.setenv("HEARTBEAT_WEBHOOK_URL", "https://example.org/hook")
    assert REFERENCE.read_text(encoding="utf-8") == settings_reference(), f"write the page again: {COMMAND}"


def test_the_page_names_its_command():
    assert COMMAND in settings_reference()
    command = [sys.executable, *COMMAND.split()[1:3]]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert printed == settings_reference()


@pytest.mark.parametrize("source", SOURCES)
def test_every_setting_has_a_meaning_and_a_row(source: str):
    page = settings_reference()
    for name, _, meaning in settings_of(source):
        assert name == "source.name" or meaning, f"{name} has no description"
        assert f"| `{name}` |" in page


def test_a_row_has_the_choices_the_range_the_default_and_the_presets():
    rows = settings_reference().splitlines()
    twenty = ", ".join(
        name for name, source in SOURCES.items() if source.preset.get("training", {}).get("epochs") == 20
    )
    assert any(
        row.startswith(f"| `training.epochs` | whole number, 0 to 1000 | `12`<br>`20` with {twenty}")
        and row.endswith(" | epochs of all layers; 0: train the last layer only |")
        for row in rows
    )
    assert any(row.startswith("| `spectrogram.hop_s` | number, > 0, ≤ 1 | `0.032` |") for row in rows)
    assert any(row.startswith("| `spectrogram.normalise` | `band` or `recording` or `none` | `band` |") for row in rows)
    assert any(row.startswith("| `split.fold` | whole number, ≥ 0 or `null` | `null` |") for row in rows)
    assert any(row.startswith("| `source.data` | path | required |") for row in rows)
    assert '| `--source pascal` | `split.collections=["set_b"]`, `training.epochs=20` |' in rows
