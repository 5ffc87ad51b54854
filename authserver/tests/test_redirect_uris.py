"""Redirect URIs: which may be registered, and which are taken for one (RFC 6749, RFC 8252)."""

import pytest

from authserver.oidc.redirects import check_uri, form_source, is_registered, origin_of
from tests.relying_party import RelyingParty, query_of, signed_in
from tests.server import Server

# (URI, public, http allowed)
RIGHT = [
    ("https://app.example.org/callback", False, False),
    ("https://app.example.org/callback", True, False),
    ("https://app.example.org:8443/a?b=c&d=%20", False, False),
    ("https://[2001:db8::1]/cb", False, False),
    ("https://localhost/cb", False, False),
    ("http://app.home/cb", False, True),
    ("http://localhost:3000/cb", False, True),
    ("http://127.0.0.1:3000/cb", False, True),
    ("http://127.0.0.1/cb", True, False),
    ("http://127.0.0.1:3000/cb", True, False),
    ("http://[::1]:3000/cb", True, False),
    ("com.example.app:/callback", True, False),
    ("com.example.app://callback", True, False),
]
WRONG = [
    ("", False, False),
    ("/callback", False, False),
    ("callback", True, False),
    ("https://app.example.org/callback#", False, False),
    ("https://app.example.org/callback#part", False, False),
    ("https://", False, False),
    ("https:///callback", False, False),
    ("https:app.example.org/callback", False, False),
    ("https://user@app.example.org/callback", False, False),
    ("https://user:password@app.example.org/callback", False, False),
    ("https://app.example.org:x/callback", False, False),
    ("https://app.example.org:99999/callback", False, False),
    ("https://app.example.org/call back", False, False),
    ("https://app.example.org/call\nback", False, False),
    ("https://app.example.org/ü", False, False),
    ("https://app.example.org\\@evil.example/", False, False),
    ("https://[::1/cb", False, False),
    ("HTTPS://app.example.org/callback", False, False),
    ("http://app.home/cb", False, False),
    ("http://app.home/cb", True, False),
    ("http://app.home/cb", True, True),
    ("http://127.0.0.1/cb", False, False),
    ("http://localhost/cb", True, False),
    ("http://localhost:3000/cb", False, False),
    ("http://127.0.0.1.evil.example/cb", True, False),
    ("http://127.0.0.2/cb", True, False),
    ("http://127.0.0.1@evil.example/cb", True, False),
    ("http:///cb", False, True),
    ("app:/callback", True, False),
    ("com.example.app:/callback", False, False),
    ("javascript:alert(1)", True, False),
    ("data:text/html,x", True, False),
    ("java.script\t:alert(1)", True, False),
]


@pytest.mark.once
@pytest.mark.parametrize(("uri", "public", "allow_http"), RIGHT)
def test_it_may_be_registered(uri: str, public: bool, allow_http: bool) -> None:
    check_uri(uri, public=public, allow_http=allow_http)


@pytest.mark.once
@pytest.mark.parametrize(("uri", "public", "allow_http"), WRONG)
def test_it_can_never_be_right(uri: str, public: bool, allow_http: bool) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_uri(uri, public=public, allow_http=allow_http)


@pytest.mark.once
@pytest.mark.parametrize(
    ("uri", "registered", "public", "meant"),
    [
        ("https://a.example/cb", "https://a.example/cb", False, True),
        ("https://a.example/cb/", "https://a.example/cb", False, False),
        ("https://a.example/CB", "https://a.example/cb", False, False),
        ("https://a.example/cb?x", "https://a.example/cb", False, False),
        ("http://127.0.0.1:5000/cb", "http://127.0.0.1/cb", True, True),
        ("http://127.0.0.1:5000/cb", "http://127.0.0.1:4000/cb", True, True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:4000/cb", True, True),
        ("http://[::1]:5000/cb", "http://[::1]/cb", True, True),
        ("http://127.0.0.1:5000/cb?a", "http://127.0.0.1/cb?a", True, True),
        ("http://127.0.0.1:5000/cb", "http://127.0.0.1/cb", False, False),
        ("http://[::1]:5000/cb", "http://127.0.0.1/cb", True, False),
        ("http://127.0.0.1:5000/other", "http://127.0.0.1/cb", True, False),
        ("http://127.0.0.1:99999/cb", "http://127.0.0.1/cb", True, False),
        ("http://127.0.0.1:/cb", "http://127.0.0.1/cb", True, False),
        ("http://127.0.0.1:5000@evil.example/cb", "http://127.0.0.1/cb", True, False),
        ("http://127.0.0.1.evil.example/cb", "http://127.0.0.1/cb", True, False),
        ("http://localhost:5000/cb", "http://localhost/cb", True, False),
        ("https://127.0.0.1:5000/cb", "https://127.0.0.1/cb", True, False),
        ("com.example.app:/cb", "com.example.app:/cb", True, True),
        ("com.example.app:/CB", "com.example.app:/cb", True, False),
    ],
)
def test_it_is_compared_byte_for_byte_but_for_the_port_of_a_native_client(
    uri: str, registered: str, public: bool, meant: bool
) -> None:
    assert is_registered(uri, [registered], public=public) is meant


@pytest.mark.once
def test_its_origin_is_as_browsers_write_it() -> None:
    assert origin_of("https://A.example:443/cb") == "https://a.example"
    assert origin_of("http://[::1]:3000/cb") == "http://[::1]:3000"
    assert origin_of("com.example.app:/cb") == ""
    assert form_source("https://a.example:8443/cb?d") == "https://a.example:8443"
    assert form_source("com.example.app:/cb") == "com.example.app:"
    assert form_source("http://[::1]:3000/cb") == "http:"


def test_a_native_client_may_come_back_at_any_port(server: Server) -> None:
    application = RelyingParty(
        server,
        client_type="public",
        redirect_uris=["http://127.0.0.1/cb", "com.example.app:/cb"],
        skip_authorization=True,
    )
    browser = signed_in(server)
    for uri in ("http://127.0.0.1:49152/cb", "com.example.app:/cb"):
        application.redirect_uri = uri
        answer = browser.get(application.url())
        assert answer.headers["Location"].startswith(f"{uri}?")
        code = query_of(answer)["code"]
        other = application.exchange(code, redirect_uri="http://127.0.0.1:49153/cb")
        assert other.json()["error"] == "invalid_grant"
        assert application.exchange(code).status_code == 200
    application.redirect_uri = "http://127.0.0.1:49152/other"
    assert browser.get(application.url()).status_code == 400


def test_an_application_in_a_home_may_have_http(server: Server) -> None:
    uri = "http://photos.home/cb"
    application = RelyingParty(
        server, redirect_uris=[uri], allow_http=True, skip_authorization=True
    )
    assert application.tokens(signed_in(server))["access_token"]
