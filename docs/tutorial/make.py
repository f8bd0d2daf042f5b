"""Runs the tutorial's scripts as notebooks and writes each as Markdown with its output and plots: `make tutorial`.

``python docs/tutorial/make.py 1 3``: pages 1 and 3 only.
"""

import os
import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

FOLDER = Path(__file__).parent
IMAGES = FOLDER / "images"
CONFIG = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {"remove_input"}}})
TEMPLATE = """{% extends 'markdown/index.md.j2' %}
{% block data_png %}
![{{ output.metadata['image/png'].alt }}]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock data_png %}
"""


def make(script: Path) -> None:
    """Execute one script and write its page and images. Raises CellExecutionError with the cell that failed."""
    notebook = jupytext.read(script)
    resources = {"metadata": {"path": str(FOLDER)}, "unique_key": script.stem, "output_files_dir": IMAGES.name}
    NotebookClient(notebook, timeout=None, startup_timeout=600, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for warning in (output for output in outputs if output.get("name") == "stderr"):
            sys.stderr.write(warning["text"])  # not on the page: it names folders of this machine
        cell["outputs"] = [output for output in outputs if output.get("name") != "stderr"]
    page, resources = MarkdownExporter(config=CONFIG, raw_template=TEMPLATE).from_notebook_node(notebook, resources)
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.glob(f"{script.stem}_*"):
        old.unlink()
    for name, content in resources["outputs"].items():
        (FOLDER / name).write_bytes(content)
    lines = (line.rstrip() for line in page.strip().splitlines())
    script.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # by tqdm, in notebooks without ipywidgets
    for script in sorted(FOLDER.glob("[0-9]_*.py")):
        if not sys.argv[1:] or script.name[0] in sys.argv[1:]:
            sys.stderr.write(f"{script.name}\n")
            make(script)
