"""The HTTP service of `heartbeat serve`."""
