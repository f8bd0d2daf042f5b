"""Shared fixtures: PostgreSQL and an S3 server, and on them the servers of docs/server.md."""

from collections.abc import Iterator

import pytest
from server.profile_servers import POSTGRES, Database, Profile, postgres, s3_server, server_profile


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """PostgreSQL with the users and databases of docs/server.md."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def profile(database: Database, tmp_path_factory) -> Iterator[Profile]:
    """Prefect's and MLflow's servers, started by the page's commands."""
    with s3_server() as s3, server_profile(database, s3, tmp_path_factory.mktemp("server")) as started:
        yield started
