"""The server profile as docs/server.md sets it up: PostgreSQL, an S3 server, Prefect's and MLflow's servers, all on loopback."""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from helpers import free_port
from moto.server import ThreadedMotoServer

from flows.local.servers import is_healthy

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "server.md").read_text(encoding="utf-8")
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
SECRETS = {"PREFECT_PASSWORD": "prefect%40secret", "MLFLOW_PASSWORD": "mlflow%40secret", "S3_SECRET": "bucket-secret"}
TIMEOUT_S = 600
KEPT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "TQDM_DISABLE", "PATH", "HOME", "LANG", "TMPDIR")


def page_blocks(kind: str) -> list[str]:
    """The fenced blocks of docs/server.md in that language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def page_settings(file: str) -> dict[str, str]:
    """The variables of an environment file of the page, with its placeholders."""
    (block,) = (block for block in page_blocks("ini") if block.startswith(f"# {file}\n"))
    return dict(line.split("=", 1) for line in block.splitlines() if not line.startswith("#"))


def parameter(changes: dict[str, object]) -> str:
    """The deployment's parameter ``config`` with these settings, by their names with dots."""
    config: dict = {}
    for name, value in changes.items():
        section, _, setting = name.rpartition(".")
        config.setdefault(section, {})[setting] = value
    return f"config={json.dumps(config)}"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server: its address, and how its programs are called as the administrator."""

    address: str
    as_admin: tuple[str, ...]

    def dump(self, name: str) -> str:
        """A whole database as SQL."""
        host, port = self.address.split(":")
        command = [*self.as_admin, str(POSTGRES / "pg_dump"), "-h", host, "-p", port, "-U", "postgres", name]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout

    def rows(self, name: str, query: str) -> list[tuple]:
        """The rows of a query in a database."""
        with self._cursor(name) as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def change(self, name: str, statement: str) -> None:
        """Execute a statement in a database, as its owner."""
        with self._cursor(name) as cursor:
            cursor.execute(f"SET ROLE {name}")
            cursor.execute(statement)

    @contextlib.contextmanager
    def _cursor(self, name: str) -> Iterator[Any]:
        import psycopg2

        host, port = self.address.split(":")
        connected = psycopg2.connect(host=host, port=port, user="postgres", password="admin", dbname=name)
        with contextlib.closing(connected) as connection, connection, connection.cursor() as cursor:
            yield cursor


@contextlib.contextmanager
def postgres() -> Iterator[Database]:
    """PostgreSQL with the users and databases of docs/server.md."""
    assert POSTGRES is not None
    as_admin = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="heartbeat-pg-"))
    password_file = folder.with_suffix(".password")
    password_file.write_text("admin")
    if as_admin:
        for path in (folder, password_file):
            shutil.chown(path, "postgres")
    options = ["-A", "scram-sha-256", "-U", "postgres", "--pwfile", str(password_file), "--no-sync", "-E", "UTF8"]
    subprocess.run(
        [*as_admin, str(POSTGRES / "initdb"), "-D", str(folder), *options],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    port = free_port()
    settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
    command = [str(POSTGRES / "postgres"), "-D", str(folder)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    os.environ["PGPASSWORD"] = "admin"
    server = subprocess.Popen([*as_admin, *command], cwd="/", stderr=subprocess.DEVNULL, start_new_session=True)
    address = f"127.0.0.1:{port}"
    try:
        _create_databases(address)
        yield Database(address, as_admin)
    finally:
        os.environ.pop("PGPASSWORD")
        os.killpg(server.pid, signal.SIGQUIT)  # at once: nothing is kept
        server.wait()
        shutil.rmtree(folder)
        password_file.unlink()


def _create_databases(address: str) -> None:
    """Run the page's SQL, once the server answers."""
    import psycopg2

    host, port = address.split(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            admin = psycopg2.connect(host=host, port=port, user="postgres", password="admin")
            break
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    admin.autocommit = True
    (sql,) = page_blocks("sql")
    with contextlib.closing(admin), admin.cursor() as cursor:
        for statement in sql.split(";"):
            if statement.strip():
                for name, value in SECRETS.items():
                    statement = statement.replace(name, value.replace("%40", "@"))
                cursor.execute(statement)


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[str, Any]]:
    """The address of an S3 server with a bucket ``bucket``, and a client of it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    yield url, client
    server.stop()


@dataclass(frozen=True)
class Machine:
    """One of several machines of the server profile: its environment, and a folder that no other machine has."""

    folder: Path
    environment: dict[str, str]

    def start(self, command: str, log: Path) -> subprocess.Popen:
        """Start a command of the page; its output goes to ``log``."""

        def restore() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a worker never stops on SIGTERM

        with log.open("ab") as output:
            return subprocess.Popen(
                shlex.split(command), env=self.environment, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, preexec_fn=restore,
            )  # fmt: skip

    def run(self, command: str, statuses: Collection[int] = (0,)) -> str:
        """Run a command of the page to its end; returns what it printed. Fails unless it ends with one of ``statuses``."""
        self.folder.mkdir(exist_ok=True)
        log = self.folder / f"{time.monotonic_ns()}.log"
        process = self.start(command, log)
        try:
            code = process.wait(TIMEOUT_S)
        finally:
            _end(process)
        text = log.read_text(encoding="utf-8", errors="replace")
        assert code in statuses, f"{command}: {code}\n{text[-6000:]}"
        return text


def _end(process: subprocess.Popen) -> None:
    """Stop a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class Profile:
    """The running servers: values for the page's placeholders, and the folder of every log and working file."""

    folder: Path
    values: dict[str, str]
    database: Database
    s3: Any

    def filled(self, text: str) -> str:
        """A text of the page with our values in place of its placeholders."""
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    def objects(self) -> set[str]:
        """The names of all objects in the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="bucket")
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        """The content of an object."""
        return self.s3.get_object(Bucket="bucket", Key=key)["Body"].read()

    def machine(self, name: str, file: str = "heartbeat.env", **others: str) -> Machine:
        """A machine that has the page's environment file ``file``, and the variables ``others``."""
        values = {name: self.filled(value) for name, value in page_settings(file).items()}
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        here = {name: os.environ[name] for name in KEPT if name in os.environ}
        here["PATH"] = f"{Path(sys.executable).parent}:{here['PATH']}"
        here["PYTHONPATH"] = f"{PROJECT}:{PROJECT / 'tests'}"
        own = {"HEARTBEAT_WORK": str(folder / "work"), "HEARTBEAT_PROJECT": str(PROJECT), "PREFECT_HOME": str(folder)}
        own = {name: value for name, value in own.items() if name in values or name == "PREFECT_HOME"}
        no_metadata = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}
        return Machine(folder, {**here, **no_metadata, **values, **own, **others})


@contextlib.contextmanager
def running(machine: Machine, command: str, log: Path, health: str = "") -> Iterator[subprocess.Popen]:
    """A command of the page while the block runs, from when ``health`` answers."""
    process = machine.start(command, log)
    try:
        deadline = time.monotonic() + 180
        while health and not is_healthy(health):
            assert process.poll() is None, log.read_text(errors="replace")[-6000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-6000:]
            time.sleep(0.3)
        yield process
    finally:
        _end(process)


@contextlib.contextmanager
def server_profile(database: Database, s3: tuple[str, Any], folder: Path) -> Iterator[Profile]:
    """Both servers of docs/server.md, started by its commands."""
    prefect, mlflow = free_port(), free_port()
    values = {
        **SECRETS, "DATABASE/": f"{database.address}/", "BUCKET": "bucket", "https://S3_HOST": s3[0], "S3_KEY": "key",
        "PREFECT_HOST": f"127.0.0.1:{prefect}", "MLFLOW_HOST": f"127.0.0.1:{mlflow}",
        "--port 4200": f"--port {prefect}", "--port 5000": f"--port {mlflow}", "8786": str(free_port()),
        "DASK_HOST": "127.0.0.1",
    }  # fmt: skip
    profile = Profile(folder, values, database, s3[1])
    machine = profile.machine("servers", "servers.env")
    start_prefect, start_mlflow = commands("servers", profile)
    with (
        running(machine, start_prefect, machine.folder / "prefect.log", f"http://127.0.0.1:{prefect}/api/health"),
        running(machine, start_mlflow, machine.folder / "mlflow.log", f"http://127.0.0.1:{mlflow}/health"),
    ):
        yield profile


def commands(of: str, profile: Profile) -> list[str]:
    """The commands of the page's block that begins with the comment ``# of``, one a line, ready to run here."""
    (block,) = (block for block in page_blocks("bash") if block.startswith(f"# {of}"))
    return [line for line in profile.filled(block).splitlines() if line and not line.startswith("#")]
