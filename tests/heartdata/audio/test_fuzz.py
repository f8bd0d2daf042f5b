"""Five thousand damaged recordings, as many headers, and a thousand damaged tables, headers and archives (see tests/fuzzing.py)."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def test_damaged_inputs_are_read_or_refused():
    done = subprocess.run(
        [sys.executable, "tests/fuzzing.py", "--audio", "5000", "--tables", "1000", "--seed", "0"],
        capture_output=True, text=True, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    outcomes = {
        name.strip(): int(count)
        for count, name in (line.strip().split("  ", 1) for line in done.stdout.strip().splitlines())
    }
    assert sum(n for name, n in outcomes.items() if name in ("read", "refused", "not finite")) == 5000
    assert min(outcomes["read"], outcomes["refused"]) > 1000  # the damage is neither nothing nor everything
    headers = {name.removeprefix("header "): n for name, n in outcomes.items() if name.startswith("header ")}
    assert min(headers[name] for name in ("read", "refused", "prediction", "no prediction")) > 500
    assert headers["prediction"] + headers["no prediction"] == sum(
        headers[n] for n in ("read", "refused")
    ) + headers.get("not finite", 0)
    assert sum(n for name, n in outcomes.items() if ": " in name) == 1000
    kinds = {name.split(": ")[0] for name in outcomes if ": " in name}
    assert kinds == {"csv", "cinc2016", "circor2022", "pascal", "excel", "zip"}
    assert all(f"{kind}: {outcome}" in outcomes for kind in kinds for outcome in ("listed", "refused"))
    assert outcomes["MiB at most"] < 2000
