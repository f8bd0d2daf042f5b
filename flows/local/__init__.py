"""Prefect and MLflow servers on this machine, and the environment that they run in."""
