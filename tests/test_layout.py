"""The folder mlflow/ does not shadow the library. (`make check` runs import-linter on the layers.)"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_mlflow_folder_shadows_nothing():
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    code = "import mlflow; print(mlflow.__version__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.startswith("3.")
