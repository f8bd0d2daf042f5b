"""The table of results in README.md, from the page that `heartbeat study results` has written: python -m benchmarks.readme."""

from itertools import groupby
from pathlib import Path

from benchmarks.pages import markdown_table
from heartdata.studies.protocols import STUDIES
from heartdata.studies.results import CHANGED

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results" / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEADS = (
    "study", "metric", "resnet34 (95 % interval)", "simple features", "metadata only", "reference", "command"
)  # fmt: skip


def results_table(page: str) -> str:
    """The first table of the page of results for README.md, with titles, and the commands of the second."""
    results, records = _tables(page)
    commands = {row["study"]: row["command"] for row in records}
    return markdown_table(HEADS, [_readme_row(row, commands[row["study"].removesuffix(CHANGED)]) for row in results])


def _tables(page: str) -> list[list[dict[str, str]]]:
    """The rows of each table of a page, by the names in its first row."""
    tables = []
    for is_table, lines in groupby(page.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            tables.append([dict(zip(names, row, strict=True)) for row in rows])
    return tables


def results_block(readme: str) -> str:
    """What README.md has between its comments."""
    return readme.partition(BEGIN)[2].partition(END)[0].strip()


def _readme_row(row: dict[str, str], command: str) -> list[str]:
    name = row["study"].split("`")[1]
    title = STUDIES[name].title
    if row["arm"]:
        title = f"{title.partition(':')[0]}, {row['arm']}"
    simple, metadata = (row[model].partition(" ")[0] for model in ("simple features", "metadata only"))
    return [
        f"[{title}](docs/results/{name}/README.md)", row["metric"], row["resnet34"], simple, metadata, row["reference"],
        command,
    ]  # fmt: skip


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    table = results_table(RESULTS.read_text(encoding="utf-8"))
    README.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
