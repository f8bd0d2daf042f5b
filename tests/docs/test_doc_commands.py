"""The commands in the documentation exist, with their options and settings; nothing is run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.core import TyperGroup

from flows.cli.main import app
from flows.cli.options import dict_of, run_config
from heartdata.errors import ConfigError
from heartdata.studies.config import study_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SHELL = {"", "sh", "bash", "console"}
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>&1"}
CLI = typer.main.get_command(app)
UsageError = typer.BadParameter.__base__  # Typer's own copy of click does not export it


def lines_of(page: Path) -> Iterator[tuple[str, bool]]:
    """Each line of the page's shell blocks, and each code span; and whether it is a whole command."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info.strip() in SHELL:
            yield from ((line, True) for line in token.content.replace("\\\n", " ").splitlines())
        for child in token.children or []:
            if child.type == "code_inline":
                yield child.content, False


def words_of(line: str) -> list[str]:
    """A line of a shell split into words, up to a pipe or the like; none where it is no command."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an apostrophe in other text
        return []
    return words[: next((at for at, word in enumerate(words) if word in ENDS), len(words))]


def heartbeat_arguments(words: list[str]) -> list[str] | None:
    """What follows `heartbeat`; None where the words are another command. It may stand behind variables or `sudo`."""
    ats = [at for at, word in enumerate(words[:-1]) if re.fullmatch(r"(.*/)?heartbeat", word)]
    started = [at for at in ats if all("=" in word for word in words[:at]) or words[0] in ("sudo", "env", "nohup")]
    return words[started[-1] + 1 :] if started else None


def fault_of(arguments: list[str], whole: bool) -> str | None:
    """What is wrong with arguments of `heartbeat`; in a code span, those that are required may be missing."""
    command, name, rest = CLI, "heartbeat", list(arguments)
    context = typer.Context(command, info_name=name)
    try:
        while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest[0])
            if found is None:
                return f"there is no command {rest[0]}"
            command, name, rest = found, rest[0], rest[1:]
            context = typer.Context(command, info_name=name, parent=context)
        parsed = command.make_context(name, rest, resilient_parsing=not rest or rest[0] in ("--help", "--version"))
        check_settings(name, parsed.params)
    except UsageError as error:
        is_missing = type(error).__name__ == "MissingParameter"
        return None if is_missing and not whole else error.format_message()
    except ConfigError as error:
        return str(error)
    return None


def check_settings(command: str, given: dict[str, Any]) -> None:
    """Build the settings of a command, leaving out its file of settings. Raises `ConfigError`."""
    if not given.get("changes"):
        return
    if command == "study":
        if given["name"].islower():
            study_config(given["name"], given["data"], None, dict_of(given["changes"], None))
        return
    source = given.get("source") or ("table" if given.get("data") or given.get("config") else None)
    data = given.get("data") or (None if source in (None, "demo") else ".")
    run_config(source, data, None, given["changes"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist_with_their_options_and_settings(page: Path):
    found = [(line, heartbeat_arguments(words_of(line)), whole) for line, whole in lines_of(page)]
    faults = {line: fault_of(arguments, whole) for line, arguments, whole in found if arguments}
    assert {line: fault for line, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_named_alone_exist(page: Path):
    for line, whole in lines_of(page):
        words = [] if whole else words_of(line)
        if words[:1] == ["--set"] and "=" in words[-1] and words[-1] != "key=value":
            run_config("table", ".", None, words[1::2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_targets_of_make_and_the_benchmarks_exist(page: Path):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for words in (words_of(line) for line, _ in lines_of(page)):
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        for module in (word for word in words if re.fullmatch(r"benchmarks[./]\w+(\.py)?", word)):
            assert (ROOT / module.removesuffix(".py").replace(".", "/")).with_suffix(".py").is_file(), words


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("heartbeat run --source table --data a.csv --set split.strategy=hash  # as it should be", None),
        ("sudo -u heartbeat env A=b /opt/heartbeat status --config a.yaml", None),
        ("heartbeat rum --source table", "there is no command rum"),
        ("heartbeat run --sauce table", "No such option: --sauce"),
        ("heartbeat champion promote --reason better", "version"),
        ("heartbeat run --set training.epoch=3", "training.epoch"),
        ("heartbeat run --source table --data a.csv --set source.columns.lable=a", "source.columns.lable"),
        ("heartbeat study pascal-b --data a --set training.epochs=x", "training.epochs"),
    ],
)
def test_wrong_commands_and_settings_are_noticed(line: str, fault: str | None):
    found = fault_of(heartbeat_arguments(words_of(line)) or ["?"], whole=True)
    assert found is None if fault is None else fault in str(found)
