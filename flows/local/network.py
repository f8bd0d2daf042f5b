"""Requests to servers of this machine go straight to them, whatever the environment says of proxies and certificates."""

import ipaddress
import os
import ssl
from pathlib import Path

import typer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")  # in capitals, or in any mixture, too
EXEMPT = "no_proxy"
KEY_LOG = "SSLKEYLOGFILE"
CERTIFICATES = ("SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE")  # read even for plain HTTP


def direct_loopback() -> None:
    """Exempt loopback from proxies, for this process and its children.

    A variable is left out, with a note, when httpx, Prefect's HTTP library, could make no request because of it; so is,
    without one, a part of NO_PROXY.
    """
    for name, reason in _unusable():
        del os.environ[name]
        typer.echo(f"note {name} is ignored: {reason}", err=True)
    listed = next((value for name in _spellings(EXEMPT) if (value := os.environ[name])), "")
    has_proxy = any(os.environ[name] for proxy in PROXIES for name in _spellings(proxy))
    if not (listed or has_proxy):
        return
    exempt = [name for name in map(_without_brackets, listed.split(",")) if _can_be_exempt(name)]
    together = "*" if "*" in exempt else ",".join(dict.fromkeys([*exempt, *LOOPBACK]))
    for name in {EXEMPT, EXEMPT.upper(), *_spellings(EXEMPT)}:  # libraries read one or another
        os.environ[name] = together


def _spellings(variable: str) -> list[str]:
    """The set variables of this name, in small letters, capitals or a mixture: the first is the one that counts."""
    return sorted((name for name in os.environ if name.lower() == variable), reverse=True)


def _unusable() -> list[tuple[str, str]]:
    """The set variables that would stop every request, with the reason."""
    found = []
    for name in (name for proxy in PROXIES for name in _spellings(proxy)):
        if value := os.environ.get(name):
            from httpx import HTTPTransport, InvalidURL

            try:
                HTTPTransport(proxy=value if "://" in value else f"http://{value}", verify=False)
            except ImportError:
                found.append((name, "a SOCKS proxy needs the package socksio (pip install socksio)"))
            except (InvalidURL, ValueError):
                found.append((name, "it is no address of a proxy, such as http://proxy.example.org:8080"))
    if key_log := os.environ.get(KEY_LOG):
        try:
            Path(key_log).open("a", encoding="utf-8").close()
        except OSError as error:
            found.append((KEY_LOG, f"{key_log} cannot be written ({error.strerror})"))
    for name in CERTIFICATES:
        if value := os.environ.get(name):
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
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
