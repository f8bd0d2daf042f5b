"""The folder mlflow/ shadows nothing (what may import what is held by import-linter, in `make check`)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_mlflow_folder_shadows_nothing():
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    code = "import mlflow; print(mlflow.__version__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.startswith("3.")
