"""docker/ and systemd/: what they start exists, only the proxy can be reached, and no password is in them."""

import itertools
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).parents[2]
COMPOSE = PROJECT / "docker" / "compose.yaml"
SERVICES = YAML(typ="safe").load(COMPOSE)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
UNITS = sorted((PROJECT / "systemd").glob("*.service"))
SECRET = re.compile(r"password|secret|access_key|://[^/]*@", re.IGNORECASE)
PROGRAMS = {entry.name for entry in entry_points(group="console_scripts")} | {"python"}


def environment(service: dict) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def test_only_the_proxy_is_published_and_by_default_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["proxy"]
    assert all(port.startswith("${HEARTBEAT_ADDRESS:-127.0.0.1}:") for port in published["proxy"])
    assert not any("network_mode" in service or service.get("privileged") for service in SERVICES.values())
    assert YAML(typ="safe").load(COMPOSE)["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == {
        "prefect",
        "proxy",
        "worker",
    }  # Prefect posts notices; the worker may read recordings from elsewhere


def test_no_password_is_in_the_files():
    for service in SERVICES.values():
        for name, value in environment(service).items():
            if SECRET.search(f"{name}={value}") and not value.startswith("/run/secrets/"):
                assert ":?set it in docker/.env}" in value, name
    example = (PROJECT / "docker" / "env.example").read_text()
    assert re.findall(r"^(\w*(?:PASSWORD|KEY))=(.*)$", example, re.MULTILINE) == [
        ("POSTGRES_PASSWORD", ""), ("S3_ACCESS_KEY", ""), ("S3_SECRET_KEY", ""),
    ]  # fmt: skip
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    assert {"docker/.env", "docker/secrets/"} <= set(ignored)
    copied = (PROJECT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied[0] == "*"
    assert not any("docker" in line for line in copied)


def test_the_example_names_every_variable():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert used == set(re.findall(r"^(\w+)=", (PROJECT / "docker" / "env.example").read_text(), re.MULTILINE))


def test_prefect_can_send_notices_and_forgets_old_runs():
    assert environment(SERVICES["deploy"])["HEARTBEAT_WEBHOOK_URL"] == "${HEARTBEAT_WEBHOOK_URL:-}"
    assert environment(SERVICES["prefect"])["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] == "events,flow_runs"


def test_containers_have_versions_restart_and_are_contained():
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
        ends = name in ("bucket", "deploy")
        assert service["restart"] == ("on-failure" if ends else "unless-stopped"), name
        assert ends or service["healthcheck"], name
    for name in (*OURS, "proxy"):
        assert SERVICES[name]["cap_drop"] == ["ALL"], name
        assert SERVICES[name]["read_only"], name


def programs(name: str) -> list[list[str]]:
    """The command lines that a container runs."""
    command = OURS[name]["command"]
    return [line.split() for line in command[2].split("&&")] if command[0] == "sh" else [command]


@pytest.mark.parametrize("name", OURS)
def test_the_programs_of_our_containers_exist(name: str):
    for program, *arguments in programs(name):
        assert program in PROGRAMS
        if program == "python":
            compile(arguments[1], name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prefect", "mlflow", "deploy", "worker", "serve"])
def test_the_options_of_our_containers_exist(name: str):
    for program, *arguments in programs(name):
        words = list(
            itertools.takewhile(lambda word: not word.startswith("-"), [a for a in arguments if a != "--no-prompt"])
        )
        words = words[: 1 if words[0] == "deploy" else 2]  # behind them are names
        module = "flows.cli.main" if program == "heartbeat" else program
        shown = subprocess.run(
            [sys.executable, "-m", module, *words, "--help"], capture_output=True, text=True, cwd=PROJECT
        )
        assert shown.returncode == 0, shown.stderr
        assert all(a in shown.stdout for a in arguments if a.startswith("--") and a != "--no-prompt"), arguments


def test_the_files_that_containers_mount_exist():
    mounted = [v for s in SERVICES.values() for v in s.get("volumes", ()) if v.startswith("./")]
    assert mounted
    assert all((COMPOSE.parent / volume.split(":")[0]).is_file() for volume in mounted)


def test_the_image_has_no_root_and_the_constraints():
    lines = (PROJECT / "docker" / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001"
    assert any("pip install -c constraints.txt" in line for line in lines)
    assert not any(line.startswith(("ARG", "ENV")) and SECRET.search(line) for line in lines)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_docker_compose_reads_it(tmp_path: Path):
    example = (PROJECT / "docker" / "env.example").read_text()
    (tmp_path / "env").write_text(re.sub("=$", "=/x", example, flags=re.MULTILINE))
    command = ["docker-compose", "--env-file", tmp_path / "env", "-f", COMPOSE, "config"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert YAML(typ="safe").load(shown.stdout)["services"].keys() == SERVICES.keys()
    (tmp_path / "env").write_text("")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode
    assert "set it in docker/.env" in refused.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_start_again_whatever_they_ended_with_and_outlive_a_training_without_memory(unit: Path):
    settings = dict(line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"\w+=", line))
    assert settings["Restart"] in ("always", "on-failure")
    assert "RestartPreventExitStatus" not in settings  # 2 may be a server that is away
    assert settings["OOMPolicy"] == "continue"  # by default systemd stops all processes of the unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_units_and_finds_them_contained(unit: Path, tmp_path: Path):
    text = unit.read_text()
    programs = re.findall(r"/opt/heartbeat/.venv/bin/(\w+)", text)
    assert programs
    assert set(programs) <= PROGRAMS
    (tmp_path / unit.name).write_text(re.sub(r"/opt/heartbeat/.venv/bin/\w+", "/bin/true", text))
    verified = subprocess.run(["systemd-analyze", "verify", tmp_path / unit.name], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", unit], capture_output=True, text=True
    )
    assert rated.returncode == 0, rated.stdout[-200:]
