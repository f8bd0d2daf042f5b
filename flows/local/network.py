"""Requests to servers of this machine go straight to them, whatever the environment says of proxies and certificates."""

import ipaddress
import os
import ssl

import typer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")  # also in capitals
CERTIFICATES = ("SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE")  # read even for plain HTTP


def direct_loopback() -> None:
    """Exempt loopback from proxies, for this process and its children.

    A variable is left out, with a note, when httpx, Prefect's HTTP library, could make no request because of it; so is,
    without one, a part of NO_PROXY.
    """
    for name, reason in _unusable():
        del os.environ[name]
        typer.echo(f"note {name} is ignored: {reason}", err=True)
    if any(os.environ.get(name) for name in _either_case(PROXIES)):
        listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        exempt = [name for name in map(_without_brackets, listed.split(",")) if _can_be_exempt(name)]
        together = "*" if "*" in exempt else ",".join(dict.fromkeys([*exempt, *LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = together  # libraries read one or the other


def _either_case(names: tuple[str, ...]) -> list[str]:
    return [each for name in names for each in (name, name.upper())]


def _unusable() -> list[tuple[str, str]]:
    """The set variables that would stop every request, with the reason."""
    found = []
    for name in _either_case(PROXIES):
        if value := os.environ.get(name):
            from httpx import HTTPTransport, InvalidURL

            try:
                HTTPTransport(proxy=value if "://" in value else f"http://{value}", verify=False)
            except ImportError:
                found.append((name, "a SOCKS proxy needs the package socksio (pip install socksio)"))
            except (InvalidURL, ValueError):
                found.append((name, "it is no address of a proxy, such as http://proxy.example.org:8080"))
    for name in CERTIFICATES:
        if value := os.environ.get(name):
            try:
                ssl.create_default_context(cafile=value)
            except OSError as error:
                found.append((name, f"{value} cannot be used ({error.strerror or error})"))
    return found


def _without_brackets(name: str) -> str:
    name = name.strip()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _can_be_exempt(name: str) -> bool:
    """Whether httpx understands a part of NO_PROXY."""
    from httpx import URL, InvalidURL

    try:
        ipaddress.ip_address(name)
    except ValueError:
        try:
            URL(name if "://" in name else f"all://*{name}")
        except InvalidURL:
            return False
    return bool(name)
