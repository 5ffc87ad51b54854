"""The token endpoint of the registry protocol: both forms, and what may go into a token."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwcrypto.jwk import JWK

from authserver.accounts.models import Domain, Group, ServiceUser, User
from authserver.accounts.service_users import create_service_user
from authserver.accounts.standing import end_everything
from authserver.accounts.users import set_active, sign_out
from authserver.registry import keys
from authserver.registry.models import (
    DockerRegistry,
    DockerRepo,
    RegistryKey,
    RegistryRefreshToken,
    RepoRight,
)
from tests.processes import BOUND, LIMITS, keep_secret
from tests.server import PASSWORD, Server

HTTP = httpx.Client(timeout=BOUND, trust_env=False, limits=LIMITS)
FAMILY, OPEN = "registry.example.org", "open.example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("registry"), MAX_FAILURES=0)
    maria, admin = running.make_user("Maria"), running.make_user("root2", staff=True)
    running.make_user("paul")
    assert admin.is_staff
    with running.database():
        domain = Domain.objects.create(name="example.org")
        family = DockerRegistry.objects.create(
            name="Family", client_id=FAMILY, domain=domain, user_namespaces=True
        )
        open_ = DockerRegistry.objects.create(
            name="Open", client_id=OPEN, domain=domain, allow_unauthenticated_pull=True
        )
        for registry in (family, open_):
            keys.make_key(registry)
        group = Group.objects.create(name="family")
        maria.groups.add(group)
        app = DockerRepo.objects.create(registry=family, name="family/app")
        below = DockerRepo.objects.create(registry=family, name="family/*")
        public = DockerRepo.objects.create(registry=family, name="public/*")
        RepoRight.objects.create(repo=below, group=group, may_pull=True)
        RepoRight.objects.create(repo=app, user=maria, may_push=True)
        RepoRight.objects.create(repo=public, may_pull=True)
    yield running
    running.stop()


def get(server: Server, *scopes: str, user: str = "", **more: Any) -> httpx.Response:
    query: dict[str, Any] = {"service": more.pop("service", FAMILY), "scope": list(scopes)}
    auth = (user, more.pop("password", PASSWORD)) if user else None
    url = f"{server.base}/docker/token/"
    return HTTP.get(url, params=query | more, auth=auth)


def post(server: Server, **form: Any) -> httpx.Response:
    url = f"{server.base}/docker/token/"
    return HTTP.post(url, data={"service": FAMILY, **form})


def claims(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return found


def access(answer: httpx.Response) -> dict[str, list[str]]:
    return {entry["name"]: entry["actions"] for entry in claims(answer)["access"]}


def test_the_token_is_what_the_registry_reads(server: Server) -> None:
    answer = get(server, "repository:family/app:pull,push", user="maria")
    body = answer.json()
    assert body["token"] == body["access_token"]
    assert body["expires_in"] == 300
    assert body["issued_at"].endswith("Z")
    header = jwt.get_unverified_header(body["token"])
    with server.database():
        signs = keys.signing_key(FAMILY)
    assert signs
    certificate = x509.load_pem_x509_certificate(signs.certificate.encode())
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    found = jwt.decode(body["token"], key, algorithms=["RS256"], audience=FAMILY)
    assert header["kid"] == JWK.from_pyca(key).thumbprint()
    assert len(header["x5c"]) == 1
    assert (found["iss"], found["sub"]) == ("example.org", "Maria")
    assert found["exp"] - found["iat"] == 300
    assert found["nbf"] <= found["iat"]
    assert found["access"] == [
        {"type": "repository", "name": "family/app", "actions": ["pull", "push"]}
    ]
    assert found["jti"] != claims(get(server, user="maria"))["jti"]


@pytest.mark.parametrize(
    ("user", "scope", "actions"),
    [
        ("maria", "repository:family/app:pull,push,delete", ["pull", "push"]),
        ("maria", "repository:family/a/b/c:push,pull", ["pull"]),
        ("maria", "repository:family:pull", None),
        ("maria", "repository:familyx/app:pull", None),
        ("paul", "repository:family/app:pull", None),
        ("paul", "repository:public/app:pull,push", ["pull"]),
        ("", "repository:public/app:pull,push", ["pull"]),
        ("", "repository:family/app:pull", None),
        ("maria", "repository:maria/any/thing:pull,push,delete", ["pull", "push", "delete"]),
        ("maria", "repository:maria/x:*", ["pull", "push", "delete"]),
        ("maria", "repository:maria:pull", None),
        ("maria", "repository:paul/x:pull", None),
        ("", "repository:maria/x:pull", None),
        ("root2", "repository:anything:delete", ["delete"]),
        ("root2", "registry:catalog:*", ["*"]),
        ("maria", "registry:catalog:*", None),
        ("", "registry:catalog:*", None),
        ("root2", "registry:other:*", None),
        ("root2", "other:x:pull", None),
    ],
)
def test_a_token_has_what_is_asked_and_allowed(
    server: Server, user: str, scope: str, actions: list[str] | None
) -> None:
    name = scope.split(":")[1]
    assert access(get(server, scope, user=user)) == ({name: actions} if actions else {})


def test_repeated_scopes_all_count(server: Server) -> None:
    answer = get(
        server, "repository:family/app:push", "bad", "repository:public/x:pull", user="maria"
    )
    assert access(answer) == {"family/app": ["push"], "public/x": ["pull"]}


def test_anonymous_pull_only_where_the_registry_allows_it(server: Server) -> None:
    scope = "repository:some/app:pull,push"
    assert access(get(server, scope, service=OPEN)) == {"some/app": ["pull"]}
    assert access(get(server, scope)) == {}
    assert claims(get(server, scope))["sub"] == ""


@pytest.mark.parametrize(
    ("user", "password"), [("maria", "wrong password"), ("nobody", PASSWORD), ("maria", "")]
)
def test_a_wrong_password_is_401_with_the_protocol_s_body(
    server: Server, user: str, password: str
) -> None:
    for answer in (
        get(server, user=user, password=password),
        post(server, grant_type="password", username=user, password=password),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert "token" not in answer.json()


def test_what_is_no_basic_is_401(server: Server) -> None:
    url = f"{server.base}/docker/token/?service={FAMILY}"
    for header in ("Bearer x", "Basic ###", "Basic"):
        assert HTTP.get(url, headers={"Authorization": header}).status_code == 401


def test_an_unknown_service_is_400(server: Server) -> None:
    for service in ("", "unknown"):
        answer = get(server, service=service, user="maria")
        assert answer.status_code == 400
        assert answer.json()["errors"]


def test_an_unknown_grant_is_400(server: Server) -> None:
    assert post(server, grant_type="client_credentials").status_code == 400


def test_the_form_of_oauth_gives_the_same(server: Server) -> None:
    answer = post(
        server,
        grant_type="password",
        username="maria",
        password=PASSWORD,
        scope="repository:family/app:push bad repository:public/x:pull",
    )
    assert access(answer) == {"family/app": ["push"], "public/x": ["pull"]}
    assert "refresh_token" not in answer.json()


def test_a_post_may_have_basic_instead_of_a_grant(server: Server) -> None:
    url = f"{server.base}/docker/token/"
    form = {"service": FAMILY, "scope": "repository:family/app:push"}
    answer = HTTP.post(url, data=form, auth=("maria", PASSWORD))
    assert access(answer) == {"family/app": ["push"]}


def test_a_chunked_body_without_a_length_is_read(server: Server) -> None:
    def body() -> Iterator[bytes]:
        yield f"service={FAMILY}&grant_type=password&username=maria".encode()
        yield f"&password={PASSWORD.replace(' ', '+')}&scope=repository:family/app:push".encode()

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = HTTP.post(f"{server.base}/docker/token/", content=body(), headers=kind)
    assert "content-length" not in answer.request.headers
    assert access(answer) == {"family/app": ["push"]}


def login(server: Server, user: str = "maria", password: str = PASSWORD, **more: Any) -> str:
    """A refresh token, as `docker login` gets it."""
    answer = get(
        server, user=user, password=password, offline_token="true", client_id="docker", **more
    )
    return keep_secret(str(answer.json()["refresh_token"]))


def refresh(server: Server, token: str, **form: Any) -> httpx.Response:
    scope = "repository:family/app:push"
    return post(server, grant_type="refresh_token", refresh_token=token, scope=scope, **form)


def test_a_refresh_token_stands_for_the_password(server: Server) -> None:
    token = login(server)
    answer = refresh(server, token)
    assert access(answer) == {"family/app": ["push"]}
    assert answer.json()["refresh_token"] == token
    form = {"username": "maria", "password": PASSWORD, "access_type": "offline"}
    assert "refresh_token" in post(server, grant_type="password", **form).json()


def test_only_a_digest_of_it_is_kept(server: Server) -> None:
    token = login(server)
    with server.database():
        for row in RegistryRefreshToken.objects.values_list():
            assert token not in [str(value) for value in row]


def test_anybody_gets_no_refresh_token(server: Server) -> None:
    assert "refresh_token" not in get(server, offline_token="true").json()


def test_a_refresh_token_is_good_at_its_registry_only(server: Server) -> None:
    assert refresh(server, login(server), service=OPEN).status_code == 401


def test_an_access_token_is_no_refresh_token(server: Server) -> None:
    token = get(server, user="maria").json()["token"]
    for made_up in (token, "", "ugr_x", "\0"):
        assert refresh(server, made_up).status_code == 401


def test_a_deactivated_user_comes_in_no_more(server: Server) -> None:
    eva = server.make_user("eva")
    token = login(server, "eva")
    with server.database():
        User.objects.filter(pk=eva.pk).update(is_active=False)
    assert refresh(server, token).status_code == 401
    assert get(server, user="eva").status_code == 401
    with server.database():
        User.objects.filter(pk=eva.pk).update(is_active=True)
        set_active(User.objects.get(pk=eva.pk), False, "tests")
        assert not RegistryRefreshToken.objects.filter(user=eva).exists()


@pytest.mark.parametrize("end", [sign_out, end_everything])
def test_what_is_open_ends_with_the_account(server: Server, end: Any) -> None:
    ida = server.make_user(f"ida-{end.__name__}")
    token = login(server, ida.identifier)
    with server.database():
        end(User.objects.get(pk=ida.pk), "tests")
    assert refresh(server, token).status_code == 401


def test_a_service_user_s_token_is_its_owner_s_and_ends_with_it(server: Server) -> None:
    with server.database():
        maria = User.objects.get(identifier="Maria")
        service, password = create_service_user(maria, "builder", "", "tests")
    keep_secret(password)
    answer = get(server, "repository:family/app:push", user="builder", password=password)
    assert claims(answer)["sub"] == "Maria"
    assert access(answer) == {"family/app": ["push"]}
    token = login(server, "builder", password)
    assert refresh(server, token).status_code == 200
    with server.database():
        ServiceUser.objects.filter(pk=service.pk).delete()
    assert refresh(server, token).status_code == 401


def test_a_rotated_key_stays_in_the_bundle_until_its_tokens_have_ended(server: Server) -> None:
    with server.database():
        registry = DockerRegistry.objects.get(client_id=FAMILY)
        old = registry.keys.get()
        new = keys.make_key(registry)
        assert keys.certificates(registry) == new.certificate + old.certificate
        RegistryKey.objects.filter(pk=old.pk).update(ended_at=old.created_at.replace(year=2020))
        assert keys.certificates(registry) == new.certificate
    header = jwt.get_unverified_header(get(server, user="maria").json()["token"])
    der = x509.load_pem_x509_certificate(new.certificate.encode())
    assert header["kid"] == JWK.from_pyca(der.public_key()).thumbprint()
    itself, by_the_old = (x509.load_der_x509_certificate(b64decode(c)) for c in header["x5c"])
    assert itself == der
    assert by_the_old.public_key() == der.public_key()
    by_the_old.verify_directly_issued_by(x509.load_pem_x509_certificate(old.certificate.encode()))


def test_a_scope_of_a_star_alone_is_no_fault(server: Server) -> None:
    assert access(get(server, "*", user="maria")) == {}
