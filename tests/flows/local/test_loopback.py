"""Proxies and certificates of the environment: loopback is reached directly, other addresses as the user says."""

import os
import socket
import urllib.request
from collections.abc import Iterator

import httpx
import pytest
import requests
from helpers import http_server

from flows.local.network import CERTIFICATES, PROXIES, direct_loopback

VARIABLES = [each for name in (*PROXIES, "no_proxy") for each in (name, name.upper())] + list(CERTIFICATES)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http_server(lambda path: b"here") as url:
        yield url


@pytest.fixture
def dead() -> Iterator[str]:
    """host:port on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTP_PROXY": "http://{dead}"},
        {"http_proxy": "{dead}", "no_proxy": "example.org"},
        {"HTTP_PROXY": "http://{dead}", "NO_PROXY": "localhost, 127.0.0.1,[::1]"},
        {"HTTP_PROXY": "http://{dead}", "NO_PROXY": "fd00::/8,[::1]:80,süß.example,a:b"},
        {"HTTP_PROXY": "http://{dead}", "NO_PROXY": "*"},
        {"NO_PROXY": "localhost,[::1]"},
        {"no_proxy": "fd00::/8"},
        {"Http_Proxy": "http://{dead}", "No_Proxy": "[::1]:80"},
        {"ALL_PROXY": "socks5://{dead}", "NO_PROXY": "localhost"},
        {"all_proxy": "socks4://{dead}"},
        {"ALL_PROXY": "socks://{dead}"},
        {"https_proxy": "http://proxy:port"},
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        {"SSL_CERT_FILE": __file__},
        {"PREFECT_API_SSL_CERT_FILE": "/nowhere/ca.pem"},
        {"SSLKEYLOGFILE": "/nowhere/keys"},
    ],
    ids=str,
)
def test_loopback_is_reached_directly(environment: dict[str, str], server: str, dead: str, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(dead=dead))
    direct_loopback()
    for url in (server, server.replace("127.0.0.1", "localhost")):
        assert httpx.get(url).content == requests.get(url, timeout=5).content == b"here"
        with urllib.request.build_opener().open(url) as response:
            assert response.read() == b"here"


def test_what_the_user_says_of_other_addresses_stays(monkeypatch, capsys):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:8080")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,.example.org")
    monkeypatch.setenv("ALL_PROXY", "socks9://me:secret@proxy.example.org")
    direct_loopback()
    assert os.environ["HTTPS_PROXY"] == "http://proxy.example.org:8080"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "10.0.0.0/8,.example.org,127.0.0.1,localhost,::1"
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("note ALL_PROXY is ignored: ")
    assert "secret" not in note


def test_without_a_proxy_nothing_is_set():
    direct_loopback()
    assert not set(VARIABLES) & os.environ.keys()
