"""nginx with docker/nginx/heartbeat.conf.template on free ports of loopback, with a certificate made for the test."""

import http.client
import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
from helpers import free_port, wait_until

from flows.local.servers import port_is_free

TEMPLATE = Path(__file__).parents[2] / "docker" / "nginx" / "heartbeat.conf.template"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DOMAIN, USER, PASSWORD = "heartbeat.localhost", "doctor", "correct horse"
LOGIN = {"Authorization": f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"}
needs_nginx = pytest.mark.skipif(not (NGINX and shutil.which("openssl")), reason="nginx or openssl is not installed")


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Proxy:
    """A running proxy; ``certificate`` signs itself."""

    https_port: int
    http_port: int
    certificate: Path

    def address(self, service: str) -> str:
        return f"https://{service}.{DOMAIN}:{self.https_port}"

    def ask(
        self, service: str, path: str, method: str = "GET", body: bytes | None = None, login: bool = True,
        server_name: str | None = None, **headers: str,
    ) -> Reply:  # fmt: skip
        """One request, its path sent as it is; ``headers`` with underscores for hyphens; ``server_name``: that of TLS."""
        tls = ssl.create_default_context(cafile=str(self.certificate))
        connection = _Connection("127.0.0.1", self.https_port, context=tls, timeout=60)
        connection.server_name = server_name or f"{service}.{DOMAIN}"
        sent = {"Host": f"{service}.{DOMAIN}:{self.https_port}"} | (LOGIN if login else {})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


class _Connection(http.client.HTTPSConnection):
    server_name = ""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.server_name)


@contextmanager
def proxy(folder: Path, **upstreams: str) -> Iterator[Proxy]:
    """``upstreams``: address:port of prefect, mlflow and serve."""
    names = ",".join(f"DNS:{service}.{DOMAIN}" for service in ("prefect", "mlflow", "serve"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={DOMAIN}",
         "-addext", f"subjectAltName={names}", "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout
    (folder / "passwords").write_text(f"{USER}:{hashed}")
    https, http_ = free_port(), free_port()
    settings = {
        "TLS_CERTIFICATE": folder / "certificate.pem", "TLS_KEY": folder / "key.pem", "PASSWORDS": folder / "passwords",
        "RESOLVER": "127.0.0.1", "HTTP_LISTEN": f"127.0.0.1:{http_}", "HTTPS_LISTEN": f"127.0.0.1:{https}",
        "PUBLIC_PORT": f":{https}", "DOMAIN": DOMAIN,
    } | {name.upper(): address for name, address in upstreams.items()}  # fmt: skip
    (folder / "heartbeat.conf").write_text(Template(TEMPLATE.read_text()).safe_substitute(settings))
    paths = "".join(f"{kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{paths}include {folder}/heartbeat.conf;\n}}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or not port_is_free(https), "nginx")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Proxy(https, http_, folder / "certificate.pem")
    finally:
        process.terminate()
        process.wait()
