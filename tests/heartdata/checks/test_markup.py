"""Labels and file names that look like markup are shown as text in Data Docs and Markdown."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers import IMAGE, LABEL, SCRIPT, parsed, words
from test_change import night

from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate
from heartdata.markdown import code, escape, markdown_table


def test_the_parser_finds_planted_markup():
    assert len(parsed(f"<p>{IMAGE}{SCRIPT}<a href='http://x.org'>x</a></p>").found) == 3


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> list[Path]:
    """Data Docs of recordings with markup in names, labels, subjects, collections and reasons of every kind of check."""
    n, docs = 60, tmp_path_factory.mktemp("docs") / "site"
    odd = [f"{i}{IMAGE}{SCRIPT}.wav" for i in range(n)]
    recordings, facts = night(
        n, recording_id=odd, label=[LABEL if i % 5 == 0 else ("normal", "murmur")[i % 2] for i in range(n)],
        collection=[f"c{IMAGE}"] * n, subject=[f"p{i // 30}{IMAGE}" for i in range(n)],
        missing=[f"no file {IMAGE}" if i == 1 else None for i in range(n)],
        error=[f"cannot be decoded {SCRIPT}" if i == 2 else None for i in range(n)],
        samples_sha256=["same" if i in (3, 4, 9) else str(i) for i in range(n)],
    )  # fmt: skip
    config = ValidationConfig(classes=("normal", "murmur"), max_quarantined_fraction=1.0)
    first = validate(recordings, facts, config, docs)
    again = validate(
        *night(n, recording_id=odd, label=[f"{LABEL}{i % 2}" for i in range(n)], quality=np.linspace(0, 1, n)),
        ValidationConfig(classes=(f"{LABEL}0", f"{LABEL}1", f"absent {IMAGE}")), docs.with_name("again"), None,
        first.accepted, first.accepted.slice(0, 20),
    )  # fmt: skip
    assert again.accepted.num_rows
    return [*docs.rglob("*.html"), *docs.with_name("again").rglob("*.html")]


def test_no_page_of_the_data_docs_runs_markup_in_names(site: list[Path]):
    assert len(site) > 8
    assert {page.name: found for page in site if (found := parsed(page.read_text()).found)} == {}
    shown: dict[str, str] = defaultdict(str)
    for page in site:
        shown[page.name] += "".join(parsed(page.read_text()).text)
    assert f"1{IMAGE}{SCRIPT}.wav" in shown["index.html"]
    assert IMAGE in shown["recordings.html"]
    assert {name for name, text in shown.items() if "&lt;img" in text} == set()  # escaped twice


ODD = [
    LABEL, IMAGE, SCRIPT, "a|b", "`code`", "``", "a\nb", "\\", "back\\|slash", "**b**", "_i_", "__b__", "[a](http://x.org)",
    "![a](http://x.org)", "<http://x.org>", "~~gone~~", "&lt;", "&amp;amp;", "# no heading", "- no item", "---", "1. no item",
    "1) no item", "+ no item", "set_a/murmur__2011_08", "<!-- no comment -->", "$x^2$", "*", "> no quote",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_markdown_shows_a_name_verbatim(text: str):
    shown = words(f"{markdown_table([{'name': text, 'other': 1}])}\n\n> {escape(text)}\n\n{code(text)}\n")
    assert shown.found == []
    cells = [cell for cell in map(str.strip, "".join(shown.text).splitlines()) if cell]
    line = " ".join(text.split())
    assert cells == ["name", "other", line, "1", line, line]
    assert set(shown.tags) == {"table", "thead", "tbody", "tr", "th", "td", "blockquote", "p", "code"}


def test_harmless_names_are_not_escaped():
    assert escape("set validation.max_drift of set_a/x_1.wav to .5 (95 %), then - maybe - 2 + 2") == (
        "set validation.max_drift of set_a/x_1.wav to .5 (95 %), then - maybe - 2 + 2"
    )
