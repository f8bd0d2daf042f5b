"""The table of results in README.md, from the page that `heartbeat study results` has written: python -m benchmarks.readme."""

from itertools import dropwhile, takewhile
from pathlib import Path

from heartdata.studies.protocols import STUDIES

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results" / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEADS = (
    "study", "metric", "resnet34 (95 % interval)", "simple features", "metadata only", "reference", "command"
)  # fmt: skip


def results_table(page: str) -> str:
    """The first table of the page of results for README.md: with titles and commands, and baselines without intervals."""
    rows = takewhile(_is_row, dropwhile(lambda line: not _is_row(line), page.splitlines()))
    names, _, *cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    lines = [HEADS, ["---"] * len(HEADS), *(_readme_row(dict(zip(names, row, strict=True))) for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_block(readme: str) -> str:
    """What README.md has between its comments."""
    return readme.partition(BEGIN)[2].partition(END)[0].strip()


def _is_row(line: str) -> bool:
    return line.startswith("|")


def _readme_row(row: dict[str, str]) -> list[str]:
    name = row["study"].split("`")[1]
    title = STUDIES[name].title
    if row["arm"]:
        title = f"{title.partition(':')[0]}, {row['arm']}"
    simple, metadata = (row[model].partition(" ")[0] for model in ("simple features", "metadata only"))
    return [
        f"[{title}](docs/results/{name}/README.md)", row["metric"], row["resnet34"], simple, metadata, row["reference"],
        row["command"],
    ]  # fmt: skip


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    table = results_table(RESULTS.read_text(encoding="utf-8"))
    README.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
