"""Prefect tasks, one module per stage: thin shells that add cache key, retries, timeout and progress to `heartdata`."""
