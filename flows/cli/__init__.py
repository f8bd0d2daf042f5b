"""The `heartbeat` command line, one module a command."""
