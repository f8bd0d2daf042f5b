"""Prefect tasks, one module a stage: thin shells that add cache key, retries, timeout and progress to `heartdata`."""
