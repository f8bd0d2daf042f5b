"""Prefect flows (wiring only) and the `heartbeat` command line."""
