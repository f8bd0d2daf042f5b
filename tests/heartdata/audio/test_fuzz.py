"""Thousands of damaged recordings, headers, tables and archives (see tests/fuzzing.py)."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def test_damaged_inputs_are_read_or_refused():
    command = [sys.executable, "tests/fuzzing.py", "--audio", "1000", "--tables", "150", "--seed", "0"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "Traceback" not in process.stderr
    outcomes = json.loads(process.stdout)
    for kind in ("audio", "headers"):
        decoded = outcomes[kind]["read"] + outcomes[kind]["refused"] + outcomes[kind].get("not finite", 0)
        assert outcomes[kind]["prediction"] + outcomes[kind]["no prediction"] == decoded
        assert min(outcomes[kind][name] for name in ("read", "refused", "prediction")) > 200
    assert sum(outcomes["tables"].values()) == 150
    sources = ("csv", "cinc2016", "circor2022", "pascal", "excel", "zip")
    assert all(f"{source}: {outcome}" in outcomes["tables"] for source in sources for outcome in ("listed", "refused"))
