"""MLflow's database in a store is made whole, or not at all."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tasks.registry.database import make_database

MAKE = "import sys; from pathlib import Path; from tasks.registry.database import make_database; make_database(Path(sys.argv[1]))"


def experiments(database: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select name from experiments").fetchall()


def test_processes_that_make_it_at_once_make_one(tmp_path: Path):
    database = tmp_path / "mlflow.db"
    processes = [subprocess.Popen([sys.executable, "-c", MAKE, str(database)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert experiments(database) == [("Default",)]
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_what_a_killed_process_left_does_not_matter(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db.tmp")) as connection:
        connection.execute("create table experiments (name text)")
    (tmp_path / "mlflow.db.tmp-journal").write_bytes(b"half")
    make_database(tmp_path / "mlflow.db")
    assert experiments(tmp_path / "mlflow.db") == [("Default",)]
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_one_that_exists_is_left_alone(tmp_path: Path):
    (tmp_path / "mlflow.db").write_bytes(b"a database")
    make_database(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b"a database"
