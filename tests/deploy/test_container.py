"""The shipped Dockerfile and compose files, unchanged, in a real Docker engine; HOST_ETC in .env is a private /etc."""

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GROUPS, ROOT, WRONG, Etc, crypt, free_port, parallel, right
from docker_engine import Engine

import main

PROJECT = "ugos-auth-proxy-test"
IMAGE = f"{PROJECT}:latest"
SHIPPED = (
    "Dockerfile",
    ".dockerignore",
    ".env.example",
    "docker-compose.yml",
    "*.py",
    "requirements.txt",
    "deploy/*.*",
)
README = (ROOT / "README.md").read_text()
YESCRYPT = "$y$j9T$saltsaltsaltsaltsalt.."  # Debian's own cost
TOKEN = secrets.token_urlsafe(32)
BOUND = 60.0  # seconds after which a wait for an event counts as failed


def until(event: Callable[[], Any], bound: float = BOUND) -> Any:
    """What `event` gives as soon as it is something; looks again and again, at most for so many seconds."""
    deadline = time.monotonic() + bound
    while not (seen := event()):
        assert time.monotonic() < deadline, f"{event} did not come"
        time.sleep(0.05)
    return seen


def child(pid: int) -> int:
    """The service's process, by that of the container's init."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


class Proxy:
    """A clone of the repository, its .env, and the container of `docker compose up -d` in it."""

    def __init__(self, engine: Engine, image: str, folder: Path, etc: Etc) -> None:
        self.engine, self.folder, self.etc, self.port = engine, folder, etc, free_port()
        folder.mkdir()
        for path in (path for pattern in SHIPPED for path in ROOT.glob(pattern)):
            (folder / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
            shutil.copy(path, folder / path.relative_to(ROOT))
        shutil.copy(folder / ".env.example", folder / ".env")
        self.offered = set(re.findall(r"(?m)^#(\w+)=", (folder / ".env").read_text()))
        self.environ = {
            name: value for name, value in engine.environ.items() if name not in self.offered
        }
        self.environ["COMPOSE_PROJECT_NAME"] = PROJECT
        self.set(IMAGE=image, HOST_ETC=etc.path, PUBLISH_PORT=self.port)

    def set(self, **lines: object) -> None:
        """Take the # off lines of .env, each with the value wanted."""
        assert set(lines) <= self.offered, "a line that .env.example does not have"
        text = (self.folder / ".env").read_text()
        for name, value in lines.items():
            text = re.sub(rf"(?m)^#?{name}=.*", f"{name}={value}", text)
        (self.folder / ".env").write_text(text)

    def compose(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert ok == (done.returncode == 0), done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.compose("up", "-d")
        self.reachable(address, tls)

    def reachable(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.ask("GET", "/health", address=address, tls=tls)[0] == 200
            return False

        until(answers)

    @property
    def container(self) -> str:
        return self.compose("ps", "--all", "--quiet").strip()

    def inspect(self, template: str) -> str:
        return self.engine.inspect(self.container, template)

    def python(self, code: str, ok: bool = True) -> str:
        """The output of Python code in the container, as the service's user."""
        return self.engine.docker("exec", self.container, "python3", "-c", code, ok=ok)

    def pid(self) -> int:
        return child(int(self.inspect(".State.Pid")))

    def ask(
        self, method: str, path: str, body: object = None, token: str = "",
        address: str = "127.0.0.1", tls: ssl.SSLContext | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and JSON of an answer."""
        connection = (
            http.client.HTTPSConnection(address, self.port, timeout=BOUND, context=tls)
            if tls
            else http.client.HTTPConnection(address, self.port, timeout=BOUND)
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def login(self, username: str, password: str, **options: Any) -> Any:
        """The answer to a login, which must be a verdict."""
        status, answer = self.ask(
            "POST", "/validate", {"username": username, "password": password}, **options
        )
        assert status == 200, answer
        return answer

    def valid(self, username: str, password: str, **options: Any) -> bool:
        return bool(self.login(username, password, **options)["valid"])


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    running = Engine(tmp_path_factory.mktemp("docker"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built as the compose file says."""
    folder = tmp_path_factory.mktemp("build")
    Proxy(engine, IMAGE, folder / "clone", Etc(folder / "etc")).compose("build")
    return IMAGE


@pytest.fixture
def proxy(engine: Engine, image: str, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(engine, image, tmp_path / "clone", Etc(tmp_path / "etc"))
    yield made
    made.set(COMPOSE_FILE="docker-compose.yml")
    made.compose("down", "--timeout", "5")


@pytest.fixture
def run(engine: Engine, image: str) -> Iterator[Callable[..., str]]:
    """Starts containers of the image itself, with options of `docker run`; gives their id."""
    started: list[str] = []

    def begin(*options: str) -> str:
        started.append(engine.docker("run", "--detach", *options, image).split()[-1])
        return started[-1]

    yield begin
    for container in started:
        engine.docker("rm", "--force", container)


# --- The image ---------------------------------------------------------------------------------


def test_dockerfile_has_nothing_that_hadolint_minds() -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT}/.venv/bin")
    assert hadolint, "make test-deploy installs it"
    assert (
        subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, check=False).stdout
        == b""
    )


@pytest.mark.parametrize(
    "file",
    ["docker-compose.yml", "deploy/docker-compose.lan.yml", "deploy/docker-compose.authentik.yml"],
)
def test_compose_config_is_clean(proxy: Proxy, file: str) -> None:
    files = dict.fromkeys(["docker-compose.yml", file])
    proxy.set(COMPOSE_FILE=":".join(files), AUTH_TOKEN=TOKEN, TLS_DIR="./tls")
    assert proxy.compose("config", "--quiet") == ""


def test_image_and_compose_file_are_of_this_version(engine: Engine, image: str) -> None:
    label = engine.docker(
        "inspect", "--format", '{{index .Config.Labels "org.opencontainers.image.version"}}', image
    )
    assert label.strip() == main.__version__
    assert f":-ugos-auth-proxy:{main.__version__}}}" in (ROOT / "docker-compose.yml").read_text()
    assert engine.docker("run", "--rm", image, "--version").split()[-1] == main.__version__


def test_image_has_no_installer_no_curl_and_nothing_that_its_user_may_change(
    engine: Engine, image: str
) -> None:
    def inside(command: str) -> str:
        return engine.docker(
            "run", "--rm", "--entrypoint", "sh", image, "-c", command, ok=False
        ).strip()

    assert inside("command -v pip pip3 curl wget gcc; ls -d /usr/lib/python3*/ensurepip") == (
        "ls: cannot access '/usr/lib/python3*/ensurepip': No such file or directory"
    )
    assert "No module named pip" in inside("python3 -m pip")
    assert inside("id") == "uid=65534 gid=42 groups=42"
    assert inside("readlink /etc/passwd /etc/shadow /etc/group").split() == [
        "/host/etc/passwd", "/host/etc/shadow", "/host/etc/group"
    ]  # fmt: skip
    find = (
        "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null"
    )
    assert set(inside(find).split()) == {"/run/lock", "/tmp", "/var/tmp"}


# --- The container -----------------------------------------------------------------------------


def test_up_health_ready_and_logins(proxy: Proxy) -> None:
    proxy.up()
    assert proxy.ask("GET", "/health") == (
        200, {"status": "healthy", "service": "ugos-auth-proxy", "version": main.__version__}
    )  # fmt: skip
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    for scheme in ("sha512", "yescrypt"):
        assert proxy.login(scheme, right(scheme)) == {"valid": True, "username": scheme}
        assert proxy.login(scheme, WRONG) == {"valid": False, "error": "Invalid credentials"}
    assert proxy.login("sha512.expired", right("sha512.expired")) == {
        "valid": False,
        "error": "Account expired",
    }
    assert not proxy.valid("nopassword", "x")


def test_changes_on_the_host_are_true_at_the_next_request(proxy: Proxy) -> None:
    proxy.up()
    assert proxy.valid("sha512", right("sha512"))
    proxy.etc.set_password("sha512", "the-new-one", "yescrypt")
    assert proxy.valid("sha512", "the-new-one")
    assert not proxy.valid("sha512", right("sha512"))

    assert not proxy.valid("newcomer", "welcome-2026")
    proxy.etc.add_user("newcomer", "welcome-2026", scheme="yescrypt")
    assert proxy.valid("newcomer", "welcome-2026")

    proxy.etc.lock("newcomer")
    assert not proxy.valid("newcomer", "welcome-2026")

    assert proxy.ask("GET", "/user-info?username=newcomer")[1]["groups"] == ["users"]
    proxy.etc.replace("group", GROUPS + "photos:x:400:newcomer\n")
    assert proxy.ask("GET", "/user-info?username=newcomer")[1]["groups"] == ["users", "photos"]


def test_a_directory_with_only_the_three_files_is_enough(proxy: Proxy, tmp_path: Path) -> None:
    """As the unit in deploy/host/ makes it."""
    (tmp_path / "copies").mkdir()

    def copy() -> None:
        for file in ("passwd", "shadow", "group"):
            subprocess.run(["cp", "-p", proxy.etc.path / file, tmp_path / "copies/new"], check=True)
            (tmp_path / "copies/new").rename(tmp_path / "copies" / file)

    copy()
    proxy.set(HOST_ETC=tmp_path / "copies")
    proxy.up()
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    proxy.etc.set_password("sha512", "the-new-one")
    copy()
    assert proxy.valid("sha512", "the-new-one")
    assert not proxy.valid("sha512", right("sha512"))


WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder == "/proc" or folder == "/sys":
        folders.clear()
        continue
    try:
        open(folder + "/written", "x").close()
        print(folder)
    except OSError:
        pass
    for file in files:
        if not folder.startswith("/dev") and file != "written" and os.access(f"{folder}/{file}", os.W_OK):
            print(f"{folder}/{file}")
"""


@pytest.mark.parametrize("user", ["65534:42", "0:0"])
def test_it_can_write_nowhere_but_to_its_tmpfs(proxy: Proxy, user: str) -> None:
    proxy.set(RUN_AS=user)
    proxy.up()
    # /dev and /dev/mqueue are the engine's, in memory and gone with the container; only root owns the former
    assert set(proxy.python(WRITABLE).split()) - {"/dev", "/dev/mqueue"} == {"/tmp"}
    assert not (proxy.etc.path / "written").exists()
    tmp = proxy.python("print(next(line for line in open('/proc/mounts') if ' /tmp ' in line))")
    assert re.match("tmpfs .*noexec.*size=1024k", tmp)


@pytest.mark.parametrize("user", ["65534:42", "0:0"])
def test_it_has_no_capability_and_gets_none(proxy: Proxy, user: str) -> None:
    proxy.set(RUN_AS=user)
    proxy.up()
    for pid in (proxy.pid(), int(proxy.inspect(".State.Pid"))):
        status = Path(f"/proc/{pid}/status").read_text()
        assert set(re.findall(r"(?m)^Cap\w+:\t(\w+)", status)) == {"0" * 16}
        assert "NoNewPrivs:\t1" in status
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)


def test_it_cannot_read_what_only_root_may(proxy: Proxy) -> None:
    proxy.etc.replace("key", "secret of the host", 0o600)
    proxy.up()
    assert "Permission denied" in proxy.python("print(open('/host/etc/key').read())", ok=False)


def test_the_log_is_rotated_and_processes_are_bounded(proxy: Proxy) -> None:
    proxy.up()
    assert json.loads(proxy.inspect("json .HostConfig.LogConfig")) == {
        "Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}
    }  # fmt: skip
    assert 0 < int(proxy.inspect(".HostConfig.PidsLimit")) <= 1024


def test_stops_within_two_seconds(proxy: Proxy) -> None:
    proxy.up()
    container, began = proxy.container, time.monotonic()
    proxy.engine.docker("stop", container)
    took = time.monotonic() - began
    print(f"docker stop: {took:.2f} s")
    assert took < 2
    assert proxy.inspect(".State.ExitCode") == "0"


def test_killed_it_comes_back(proxy: Proxy) -> None:
    proxy.up()
    killed = proxy.pid()
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: proxy.inspect(".RestartCount") == "1" and proxy.inspect(".State.Running") == "true"
    )
    proxy.reachable()
    assert proxy.pid() != killed
    assert proxy.valid("sha512", right("sha512"))


PEAKS = (
    "/sys/fs/cgroup/memory.peak",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
)  # of cgroup v2 and v1


def test_16_yescrypt_logins_at_once_stay_below_the_memory_limit(proxy: Proxy) -> None:
    """On a NAS with 16 processors, all 16 are in PAM at the same time; so here, by what the service is told."""
    (proxy.folder / "sitecustomize.py").write_text(
        "import os\nos.sched_getaffinity = lambda _: set(range(16))\n"
    )
    (proxy.folder / "docker-compose.16.yml").write_text(
        "services: {ugos-auth-proxy: {volumes: ['./sitecustomize.py:/16/sitecustomize.py:ro'],"
        " environment: {PYTHONPATH: /16}}}"
    )
    proxy.set(COMPOSE_FILE="docker-compose.yml:docker-compose.16.yml")
    names = [f"user{number}" for number in range(16)]
    for name in names:
        proxy.etc.add_user(name, hashed=crypt(right(name), YESCRYPT))
    proxy.up()
    read = f"from pathlib import Path\nprint(*(Path(p).read_text() for p in {PEAKS} if Path(p).exists()))"
    limit, idle = int(proxy.inspect(".HostConfig.Memory")), int(proxy.python(read))
    four_times = parallel(lambda name: all(proxy.valid(name, right(name)) for _ in range(4)), names)
    assert four_times == [True] * 16
    peak, mib = int(proxy.python(read)), 2**20
    print(
        f"memory: {idle / mib:.0f} MiB, with 16 logins {peak / mib:.0f} MiB, of {limit / mib:.0f} MiB"
    )
    assert peak > 8 * 16 * mib, (
        "half of them were not in PAM at once; a busy machine sees fewer than all"
    )
    assert max(peak, idle + 16 * 16 * mib) < 0.8 * limit
    assert proxy.inspect(".State.OOMKilled") == "false"
    assert proxy.inspect(".RestartCount") == "0"


# --- What can be wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "owner", "line"),
    [
        (0o600, (0, 0), "RUN_AS=0:0"),
        (0o400, (0, 0), "RUN_AS=0:0"),
        (0o640, (0, 0), "RUN_AS=0:0"),
        (0o600, (0, 42), "RUN_AS=0:42"),
        (0o640, (0, 1234), "RUN_AS=65534:1234"),
    ],
)
def test_ready_names_the_line_that_lets_it_read_shadow(
    proxy: Proxy, mode: int, owner: tuple[int, int], line: str
) -> None:
    os.chown(proxy.etc.path / "shadow", *owner)
    (proxy.etc.path / "shadow").chmod(mode)
    proxy.up()
    status, answer = proxy.ask("GET", "/ready")
    assert status == 503
    assert f"{line} in .env" in answer["error"]
    assert (
        proxy.ask("POST", "/validate", {"username": "sha512", "password": right("sha512")})[0]
        == 503
    )
    proxy.set(RUN_AS=line.removeprefix("RUN_AS="))
    proxy.up()
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    assert proxy.valid("sha512", right("sha512"))
    assert not proxy.valid("sha512", WRONG)


def test_a_missing_directory_refuses_to_start(proxy: Proxy, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    proxy.set(HOST_ETC=missing)
    assert f"bind source path does not exist: {missing}" in proxy.compose("up", "-d", ok=False)
    assert proxy.compose("ps", "--quiet") == ""
    assert not missing.exists()


def test_ready_tells_single_files_that_have_gone_stale(
    engine: Engine, run: Callable[..., str], proxy: Proxy
) -> None:
    mounts = [
        f"--volume={proxy.etc.path}/{file}:/host/etc/{file}:ro"
        for file in ("passwd", "shadow", "group")
    ]
    container = run(f"--publish=127.0.0.1:{proxy.port}:8080", *mounts)
    proxy.reachable()
    assert "event=single-file-mount" in engine.docker("logs", container)
    assert proxy.valid("sha512", right("sha512"))
    proxy.etc.set_password("sha512", "the-new-one")
    for password in (right("sha512"), "the-new-one"):
        assert (
            proxy.ask("POST", "/validate", {"username": "sha512", "password": password})[0] == 503
        )
    status, answer = proxy.ask("GET", "/ready")
    assert status == 503
    assert "the mount of /etc/shadow is stale" in answer["error"]


# --- The health check --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [[], ["PORT=9000"], ["HOST=127.0.0.2"], ["HOST=::"], ["HOST=::1"], ["TLS_CERT=/tls/cert.pem"]],
    ids=str,
)
def test_health_check_follows_the_settings(
    engine: Engine, run: Callable[..., str], certificate: Path, settings: list[str]
) -> None:
    options = [f"--env={setting}" for setting in settings]
    if "TLS_CERT" in str(settings):
        options += ["--env=TLS_KEY=/tls/key.pem", f"--volume={certificate}:/tls:ro"]
    if "::" in str(settings):
        options += [
            "--sysctl=net.ipv6.conf.lo.disable_ipv6=0",
            "--sysctl=net.ipv6.conf.all.disable_ipv6=0",
        ]
    container = run("--health-interval=1s", "--health-retries=3", *options)
    until(lambda: engine.inspect(container, ".State.Health.Status") != "starting")
    health = json.loads(engine.inspect(container, "json .State.Health"))
    assert health["Status"] == "healthy", health


def test_health_check_fails_while_the_service_hangs(
    engine: Engine, run: Callable[..., str]
) -> None:
    container = run("--init", "--health-interval=1s", "--health-timeout=1s", "--health-retries=1")
    until(lambda: engine.inspect(container, ".State.Health.Status") == "healthy")
    os.kill(child(int(engine.inspect(container, ".State.Pid"))), signal.SIGSTOP)
    until(lambda: engine.inspect(container, ".State.Health.Status") == "unhealthy")


def test_the_composed_container_becomes_healthy(proxy: Proxy) -> None:
    proxy.up()
    until(lambda: proxy.inspect(".State.Health.Status") == "healthy")


# --- Who reaches it ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def lan(engine: Engine) -> str:
    """An address of this machine that is not loopback: that of its network, or of the engine's bridge."""
    assert engine.answers()  # its bridge is there
    addresses = subprocess.run(
        ["hostname", "-I"], capture_output=True, text=True, check=True
    ).stdout.split()
    return next(address for address in addresses if ":" not in address)


@pytest.fixture(scope="session")
def certificate(lan: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that README's own commands make, with the address put in."""
    folder = tmp_path_factory.mktemp("tls")
    block = next(
        block for block in re.findall(r"(?s)```sh\n(.*?)```", README) if "openssl req" in block
    )
    assert "192.168.1.10" in block
    commands = block.replace("192.168.1.10", lan).replace("sudo ", "")
    done = subprocess.run(
        ["sh", "-ec", commands],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "tls"


def test_by_default_other_machines_do_not_reach_it(proxy: Proxy, lan: str) -> None:
    proxy.up()
    with pytest.raises(ConnectionRefusedError):
        proxy.ask("GET", "/health", address=lan)


@pytest.mark.parametrize("missing", ["AUTH_TOKEN", "TLS_DIR"])
def test_lan_is_refused_without_token_or_certificate(
    proxy: Proxy, certificate: Path, missing: str
) -> None:
    given = {"AUTH_TOKEN": TOKEN, "TLS_DIR": certificate}
    del given[missing]
    proxy.set(COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml", **given)
    for command in (["up", "-d"], ["config"]):
        assert f"required variable {missing} is missing" in proxy.compose(*command, ok=False)
    proxy.set(COMPOSE_FILE="docker-compose.yml")
    assert proxy.container == ""


def test_lan_is_refused_without_the_files_of_the_certificate(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml",
        AUTH_TOKEN=TOKEN,
        TLS_DIR=tmp_path / "tls",
    )
    proxy.compose("up", "-d")
    until(lambda: proxy.inspect(".State.Status") == "restarting")
    assert "TLS_CERT: cannot be loaded" in proxy.compose("logs")


def test_lan_works_with_token_and_certificate(proxy: Proxy, certificate: Path, lan: str) -> None:
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml",
        AUTH_TOKEN=TOKEN,
        TLS_DIR=certificate,
    )
    tls = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    tls.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 and later do by themselves
    proxy.up(lan, tls)
    assert proxy.valid("sha512", right("sha512"), token=TOKEN, address=lan, tls=tls)
    status, _ = proxy.ask(
        "POST", "/validate", {"username": "sha512", "password": right("sha512")}, "", lan, tls
    )
    assert status == 401
    with pytest.raises((http.client.HTTPException, OSError)):
        proxy.ask("GET", "/health", address=lan)


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    name = f"{PROJECT}-authentik"
    engine.docker("network", "create", name)
    yield name
    engine.docker("network", "rm", name)


def test_on_the_network_of_authentik_no_port_is_published(network: str, proxy: Proxy) -> None:
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.authentik.yml",
        AUTHENTIK_NETWORK=network,
    )
    assert "required variable AUTH_TOKEN is missing" in proxy.compose("up", "-d", ok=False)
    proxy.set(AUTH_TOKEN=TOKEN)
    proxy.compose("up", "-d")
    until(lambda: "event=start" in proxy.compose("logs"))
    assert proxy.inspect("json .NetworkSettings.Ports") in ('{"8080/tcp":null}', "{}")
    ask = "import urllib.request; print(urllib.request.urlopen('http://ugos-auth-proxy:8080/ready', timeout=30).read())"
    answer = proxy.engine.docker(
        "run", "--rm", f"--network={network}", "--entrypoint=python3", IMAGE, "-c", ask
    )
    assert '{"status": "ready"}' in answer
    proxy.compose("down")


def test_the_command_for_a_token_makes_one(proxy: Proxy) -> None:
    command = next(
        line for line in (proxy.folder / ".env").read_text().splitlines() if "openssl rand" in line
    )
    subprocess.run(["sh", "-ec", command.lstrip("# ")], cwd=proxy.folder, timeout=BOUND, check=True)
    proxy.up()
    status, _ = proxy.ask("POST", "/validate", {"username": "sha512", "password": right("sha512")})
    assert status == 401
    token = (proxy.folder / ".env").read_text().split("AUTH_TOKEN=")[-1].strip()
    assert proxy.valid("sha512", right("sha512"), token=token)
