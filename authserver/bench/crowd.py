"""100,000 users and 1,000,000 tokens in PostgreSQL, beside the same database with 100 users."""
# ruff: noqa: S608  (what is put into statements are the numbers of this file)

import statistics
import time
from urllib.parse import urlsplit

import psycopg

from bench.questions import Ask, Made, oauth_questions, open_http, other_questions
from bench.served import Served, serve

PORT, CROWDED_PORT = 18000, 18005
ASKS = 100
CODES = ASKS + 10  # with those that warm up
USERS, GRANTS, EVENTS, EXPIRED = 100_000, 500_000, 500_000, 50_000
BIG = 50_000  # rows: a table that is never read from one end to the other
CROWD = [
    f"""INSERT INTO accounts_user (uuid, password, identifier, identifier_key, fullname,
        contact_email, is_active, is_staff, source, created_at, updated_at)
    SELECT md5('user' || n)::uuid, '!', 'crowd-' || n, 'crowd-' || n, '', '', true, false, 'local',
        now(), now() FROM generate_series(1, {USERS}) n""",
    f"""INSERT INTO accounts_session (sid, digest, user_id, data, client, network, user_agent,
        authenticated_at, amr, created_at, last_used, expires_at)
    SELECT md5('session' || n)::uuid, 'session' || n, md5('user' || n)::uuid, '', '192.0.2.1',
        '192.0.2.1', '', now(), 'pwd', now(), now(), now() + interval '1 day'
        FROM generate_series(1, {USERS}) n""",
    f"""INSERT INTO accounts_knownclient (user_id, network, last_login)
    SELECT md5('user' || n)::uuid, '192.0.2.1', now() FROM generate_series(1, {USERS}) n""",
    f"""INSERT INTO oidc_grant (id, application_id, user_id, session_id, offline, scope, nonce,
        authenticated_at, amr, code_digest, redirect_uri, code_challenge, code_used_at,
        created_at, last_used, expires_at)
    SELECT md5('grant' || n)::uuid, (SELECT id FROM oidc_application), md5('user' || u)::uuid,
        md5('session' || u)::uuid, true, 'openid profile offline_access', '', now(), 'pwd',
        encode(sha256(('code' || n)::bytea), 'hex'), '', '', now(), now(), now(),
        now() + interval '1 day' + n * interval '1 second'
        FROM (SELECT n, 1 + n % {USERS} AS u FROM generate_series(1, {GRANTS}) n) AS numbers""",
    f"""INSERT INTO oidc_token (digest, kind, grant_id, scope, created_at, used_at, expires_at)
    SELECT encode(sha256((kind || n)::bytea), 'hex'), kind, md5('grant' || n)::uuid,
        'openid profile offline_access', now(), NULL,
        now() + interval '1 day' + n * interval '1 second'
        FROM generate_series(1, {GRANTS}) n, (VALUES ('access'), ('refresh')) AS kinds (kind)""",
    f"""INSERT INTO audit_event (at, kind, actor, subject, application, client, details)
    SELECT now() - n * interval '1 second', 'login', '', 'crowd-' || n % {USERS}, '',
        '192.0.2.1', '{{}}' FROM generate_series(1, {EVENTS}) n""",
    "VACUUM ANALYZE",
]
EXPIRE = f"""UPDATE oidc_token SET expires_at = now() - interval '1 second'
    WHERE digest IN (SELECT digest FROM oidc_token ORDER BY digest LIMIT {EXPIRED})"""
OLD = "SELECT count(*) FROM oidc_token WHERE expires_at < now()"
SCANS = f"""SELECT relname, seq_scan FROM pg_stat_user_tables WHERE n_live_tup > {BIG}"""


def copy_with_crowd(url: str) -> str:
    """A copy of the database at `url`, to which nobody is connected, with many more rows; its
    URL."""
    name = urlsplit(url).path.lstrip("/")
    crowded = f"{name}_crowd"
    with psycopg.connect(url.replace(f"/{name}", "/postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{crowded}"'.encode())
        connection.execute(f'CREATE DATABASE "{crowded}" TEMPLATE "{name}"'.encode())
    crowded_url = url.replace(f"/{name}", f"/{crowded}")
    with psycopg.connect(crowded_url, autocommit=True) as connection:
        for statement in CROWD:
            connection.execute(statement.encode())
    return crowded_url


def wait_of(ask: Ask) -> float:
    begun = time.monotonic()
    ask()
    return time.monotonic() - begun


def scans_of(url: str) -> dict[str, int]:
    """How often each big table was read from one end to the other."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute(SCANS.encode()).fetchall())


def ask_both(made: Made) -> dict[str, tuple[float, float]]:
    """By question: the median wait with few users, and with many, asked in turns."""
    few = open_http(f"http://localhost:{PORT}")
    many = open_http(f"http://localhost:{CROWDED_PORT}", host=f"localhost:{PORT}")
    pairs = [
        {**oauth_questions(http, made.client), **other_questions(http, made)}
        for http in (few, many)
    ]
    found: dict[str, tuple[float, float]] = {}
    for name in pairs[0]:
        asks = [questions[name] for questions in pairs]
        for ask in asks * 10:
            ask()
        waits = [[wait_of(ask) for ask in asks] for _ in range(ASKS)]
        one, other = (statistics.median(column) for column in zip(*waits, strict=True))
        found[name] = one, other
    return found


def measure_crowd(url: str, made: Made) -> None:
    crowded_url = copy_with_crowd(url)
    before = scans_of(crowded_url)
    settings = {"DATABASE_URL": crowded_url, "BASE_URL": f"http://localhost:{PORT}"}
    servers = [serve(PORT, DATABASE_URL=url), serve(CROWDED_PORT, **settings)]
    try:
        waits = ask_both(made)
    finally:
        for server in servers:
            server.stop()
    print(f"\n{'median wait in ms, in turns':34}100 users  {USERS:,} users   ratio")
    for name, (few, many) in waits.items():
        print(f"{name:34}{few * 1000:9.2f}{many * 1000:15.2f}{many / few:8.2f}")
    time.sleep(2)  # the statistics of connections that have ended come in a second
    read = {name: scans - before.get(name, 0) for name, scans in scans_of(crowded_url).items()}
    print("big tables, and how often they were read from one end to the other:", read)
    measure_clearing(crowded_url, settings, made)


def measure_clearing(url: str, settings: dict[str, str], made: Made) -> None:
    """How long `serve` takes to clear what has expired, and what requests wait meanwhile."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(EXPIRE.encode())
        server: Served = serve(CROWDED_PORT, **settings)
        try:
            http = open_http(f"http://localhost:{CROWDED_PORT}", host=f"localhost:{PORT}")
            ask = other_questions(http, made)["JWKS"]
            begun, waits = time.monotonic(), [wait_of(ask)]
            while (old := connection.execute(OLD.encode()).fetchone()) and old[0]:
                waits.append(wait_of(ask))
            seconds = time.monotonic() - begun
        finally:
            server.stop()
    print(
        f"{EXPIRED:,} expired tokens were cleared in {seconds:.0f} s; the JWKS took"
        f" {statistics.median(waits) * 1000:.1f} ms meanwhile, at most {max(waits) * 1000:.0f}"
    )
