"""Great Expectations' Data Docs made readable offline: our own front page and style, no requests to the network."""

import html
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

_REMOTE = re.compile(
    r"<link[^>]*href=\"https?://[^>]*>|<script[^>]*src=\"https?://[^>]*></script>|<img[^>]*src=\"https?://[^>]*>",
    re.DOTALL,
)
_ESCAPED_TWICE = re.compile(r"&amp;(lt|gt|amp|quot|#x27);")  # by us and, in some places, by Great Expectations
_STYLE = Path(__file__).with_name("data_docs.css")


def publish(
    site: Path, docs: Path, checks: pa.Table, quarantine: pa.Table, warned: Sequence[Mapping[str, object]], counts: str,
    plots: Mapping[str, bytes],
) -> None:  # fmt: skip
    """Copy the built pages of ``site`` to ``docs`` (by one rename), with a front page of checks and their recordings.

    ``checks`` and ``quarantine`` have schemas CHECKS and QUARANTINE; ``warned``: a row for each warning of an accepted
    recording; ``plots``: PNGs by file name.
    """
    docs.parent.mkdir(parents=True, exist_ok=True)
    complete = Path(tempfile.mkdtemp(dir=docs.parent, prefix=".docs-"))
    shutil.copytree(site, complete, dirs_exist_ok=True)
    style = f"<style>{_STYLE.read_text()}</style></head>"
    for page in complete.rglob("*.html"):
        text = _ESCAPED_TWICE.sub(r"&\1;", _REMOTE.sub("", page.read_text(encoding="utf-8")))
        page.write_text(text.replace("</head>", style, 1), encoding="utf-8")
    pages = sorted(p.relative_to(complete).as_posix() for p in complete.glob("validations/**/*.html"))
    for name, content in plots.items():
        (complete / name).write_bytes(content)
    front = _front_page(checks, quarantine, warned, pages, style, counts, sorted(plots))
    (complete / "index.html").write_text(front, encoding="utf-8")
    complete.chmod(0o755)
    shutil.rmtree(docs, ignore_errors=True)
    complete.rename(docs)


def _front_page(
    checks: pa.Table, quarantine: pa.Table, warned: Sequence[Mapping[str, object]], pages: list[str], style: str,
    counts: str, plots: list[str],
) -> str:  # fmt: skip
    rows = [row | {"passed": "✓" if row["passed"] else "✗"} for row in checks.to_pylist()]
    failed, passed = ([row for row in rows if row["passed"] == mark] for mark in "✗✓")
    refused = quarantine.select(["recording_id", "label", "check", "reason"]).to_pylist()
    marked = len({row["recording_id"] for row in warned})
    links = " · ".join(f'<a href="{html.escape(p)}">{p.split("/")[1]} </a>' for p in pages)
    images = "".join(f'<p><img src="{html.escape(name)}" alt="{html.escape(name)}"></p>' for name in plots)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>heartbeat Data Docs</title>{style}<body>'
        f"<h1>Data Docs</h1><p>{html.escape(counts)}</p>"
        f"<h2>Quarantined recordings ({len(refused)})</h2>{_html_table(refused)}"
        f"<h2>Accepted with a warning ({marked})</h2>{_html_table(warned)}"
        f"<h2>Failed checks</h2>{_html_table(failed)}"
        "<p>A recording that fails a critical check is quarantined; one that fails warnings only is accepted and marked. A "
        "critical check on the table, or on its change, stops the run when it fails.</p>"
        f"{images}<h2>Passed checks</h2>{_html_table(passed)}"
        f"<p>Details by Great Expectations: {links}</p></body></html>"
    )


def _html_table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape('' if v is None else str(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
