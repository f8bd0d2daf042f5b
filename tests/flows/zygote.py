"""Forks a process a line of its input, everything imported, which runs flow `prepare` on that configuration (JSON)."""

import os
import sys
import traceback

import great_expectations  # noqa: F401
import sklearn.model_selection  # noqa: F401

from flows.pipeline import prepare
from heartdata.config import RunConfig

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            prepare(RunConfig.model_validate_json(line))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
