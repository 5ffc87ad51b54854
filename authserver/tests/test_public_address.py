"""The public address: which Host is answered, who is believed about the client, and the headers."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from authserver.accounts.models import Session
from authserver.environment import read_networks
from authserver.http import client_of, network_of
from tests.server import PASSWORD, Serve, Server

PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}


def raw(server: Server, head: str, path: str = "/account/login/") -> str:
    """The first line of the answer to a GET with these lines in its head."""
    with socket.create_connection(("127.0.0.1", int(server.environment["PORT"])), 60) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        return peer.makefile("rb").readline().decode()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost",
        "127.0.0.1:@",
        "localhost:1",
        "localhost.evil.example:@",
        "localhost:@.evil.example",
        "evil.example, localhost:@",
        "localhost:@@evil.example",
        "localhost.:@",
        "",
        "[::1]:@",
    ],
)
def test_another_host_is_400(server: Server, host: str) -> None:
    port = server.environment["PORT"]
    assert " 400 " in raw(server, f"Host: {host.replace('@', port, 1)}\r\n")
    assert " 200 " in raw(server, f"Host: {host.replace('@', port, 1)}\r\n", "/health/")


def test_its_own_host_is_answered_in_any_case(server: Server) -> None:
    host = urlsplit(server.base).netloc
    assert " 200 " in raw(server, f"Host: {host}\r\n")
    assert " 200 " in raw(server, f"Host: {host.upper()}\r\n")


def test_two_hosts_or_none_are_400(server: Server) -> None:
    host = urlsplit(server.base).netloc
    assert " 400 " in raw(server, f"Host: {host}\r\nHost: evil.example\r\n")
    assert " 400 " in raw(server, f"Host: evil.example\r\nHost: {host}\r\n")
    assert " 400 " in raw(server, "")


def test_a_forwarded_host_counts_for_nothing(server: Server) -> None:
    page = server.browser(**{"X-Forwarded-Host": "evil.example"}).get("/account/login/")
    assert page.status_code == 200
    assert "evil.example" not in page.text + str(page.headers)


def test_https_is_what_a_trusted_proxy_says(serve: Serve) -> None:
    server = serve(BASE_URL="https://sso.example.org", TRUSTED_PROXIES="127.0.0.1,192.0.2.128/25")
    server.make_user("jane")
    browser = server.browser(**PROXY)
    answer = browser.sign_in("jane", PASSWORD)
    assert answer.status_code == 302, answer.text
    for cookie in answer.headers.get_list("set-cookie"):
        assert "Secure" in cookie
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    with server.database():
        assert Session.objects.get(user__identifier="jane").client == "192.0.2.1"
    assert " 200 " in raw(server, "Host: sso.example.org:443\r\nX-Forwarded-Proto: https\r\n")
    assert " 400 " in raw(server, "Host: sso.example.org:80\r\nX-Forwarded-Proto: https\r\n")
    assert " 400 " in raw(server, "Host: sso.example.org:8443\r\nX-Forwarded-Proto: https\r\n")


def test_who_is_not_trusted_is_not_believed(serve: Serve) -> None:
    server = serve(TRUSTED_PROXIES="127.0.0.50")
    server.make_user("jane")
    server.browser("127.0.0.51", **PROXY).signed_in("jane", PASSWORD)
    with server.database():
        assert Session.objects.get(user__identifier="jane").client == "127.0.0.51"
        Session.objects.all().delete()
    server.browser("127.0.0.50", **{"X-Forwarded-For": "192.0.2.7"}).signed_in("jane", PASSWORD)
    with server.database():
        assert Session.objects.get(user__identifier="jane").client == "192.0.2.7"


def test_a_header_with_underscores_is_another_header(serve: Serve) -> None:
    server = serve(TRUSTED_PROXIES="127.0.0.0/8")
    server.make_user("jane")
    server.browser("127.0.0.52", **{"X_Forwarded_For": "192.0.2.9"}).signed_in("jane", PASSWORD)
    with server.database():
        assert Session.objects.get(user__identifier="jane").client == "127.0.0.52"


TRUSTED = read_networks("10.0.0.0/8, 2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2,10.0.0.3", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1, ", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:1234", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1\r\nX: y", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1%eth0", "10.0.0.1"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:1::1", "2001:DB8:2:0::5", "2001:db8:2::5"),
        ("10.0.0.1", "0x7f.1", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.001", "10.0.0.1"),
    ],
)
def test_the_rightmost_that_is_not_trusted_is_the_client(
    peer: str, forwarded: str, client: str
) -> None:
    assert client_of(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1::", "2001:db8:0:1::/64"),
    ],
)
def test_a_client_is_counted_by_its_network(client: str, network: str) -> None:
    assert network_of(client) == network


def test_every_page_says_what_a_browser_may_do(server: Server) -> None:
    for path in ("/account/login/", "/nowhere/", "/health/", "/admin/login/", "/setup/"):
        headers = httpx.get(server.base + path, trust_env=False, timeout=60).headers
        policy = headers["content-security-policy"]
        assert "unsafe-inline" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers


def test_health_is_200_and_says_so(server: Server) -> None:
    answer = httpx.get(server.base + "/health/", trust_env=False, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})
