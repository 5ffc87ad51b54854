"""GET /getkey/: the keys that JWTs are checked with."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authserver.accounts.models import Domain
from authserver.domains.keys import make_key
from authserver.registry.keys import make_key as make_registry_key
from authserver.registry.models import DockerRegistry
from tests.processes import BOUND, LIMITS
from tests.server import Server

HTTP = httpx.Client(timeout=BOUND, trust_env=False, limits=LIMITS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("getkey"))
    with running.database():
        domain = Domain.objects.create(name="localhost", jwt_sign_subdomains=True)
        make_key(domain, "jwt", "tests")
        make_key(domain, "dkim", "tests")
        Domain.objects.create(name="empty.example")
        registry = DockerRegistry.objects.create(name="R", client_id="reg:5000", domain=domain)
        make_registry_key(registry)
    yield running
    running.stop()


def get(server: Server, **query: Any) -> httpx.Response:
    return HTTP.get(f"{server.base}/getkey/", params=query)


def test_the_public_key_comes_in_lines(server: Server) -> None:
    answer = get(server)
    assert answer.status_code == 200
    assert list(answer.json()) == ["public_key_pem"]
    load_pem_public_key("\n".join(answer.json()["public_key_pem"]).encode())


def test_the_certificate_is_the_same_each_time_and_has_the_key(server: Server) -> None:
    first, second = get(server, format="cert"), get(server, format="cert", domain="a.localhost")
    assert first.json() == second.json()
    assert list(first.json()) == ["cert"]
    certificate = x509.load_pem_x509_certificate("\n".join(first.json()["cert"]).encode())
    key = load_pem_public_key("\n".join(get(server).json()["public_key_pem"]).encode())
    assert certificate.public_key() == key


def test_a_registry_is_found_by_its_client_id(server: Server) -> None:
    key = get(server, type="r", domain="reg:5000").json()["public_key_pem"]
    assert key != get(server).json()["public_key_pem"]
    assert get(server, type="r", domain="localhost").status_code == 404


@pytest.mark.parametrize("domain", ["empty.example", "unknown.example", "nope"])
def test_no_key_is_404(server: Server, domain: str) -> None:
    answer = get(server, domain=domain)
    assert answer.status_code == 404
    assert "error" in answer.json()


@pytest.mark.parametrize(
    "query", [{"type": "x"}, {"format": "pem"}, {"domain": ""}, {"type": ["d", "r"]}]
)
def test_a_bad_parameter_is_400(server: Server, query: dict[str, Any]) -> None:
    assert get(server, **query).status_code == 400


def test_plain_http_is_400_where_the_public_address_is_https(serve: Any) -> None:
    server = serve(BASE_URL="https://login.example.org", TRUSTED_PROXIES="127.0.0.0/8")
    with server.database():
        make_key(Domain.objects.create(name="login.example.org"), "jwt", "tests")
    url, host = f"{server.address}/getkey/", {"Host": "login.example.org"}
    assert HTTP.get(url, headers=host).status_code == 400
    answer = HTTP.get(url, headers={**host, "X-Forwarded-Proto": "https"})
    assert answer.status_code == 200
