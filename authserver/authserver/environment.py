"""The settings: one table, from which parsing, `authserver settings` and README's table come.

Each is an environment variable; an empty one counts as unset. A secret may stand in a file that
NAME_FILE names. Where the folder `/etc/appconfig/authserver/env` exists (envdir(8): one file a
variable, its first line the value), it is read first, and the environment goes before it.
"""

import ipaddress
import json
import os
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dj_database_url

APPCONFIG_DIR = "/etc/appconfig/authserver"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadSetting(ValueError):
    """A setting that cannot be used; the text names the variable and says what it must be."""


# --- Readers: the text of a variable to its value; ValueError says what it must be ---------------


def read_number(low: float, high: float, text: str, cast: Callable[[str], float] = int) -> float:
    """A plain decimal number from `low` to `high`; a whole one unless `cast` is float."""
    form, kind = (
        (r"[0-9]+", "a whole number") if cast is int else (r"[0-9]+(\.[0-9]+)?", "a number")
    )
    if not re.fullmatch(form, text, re.ASCII) or len(text) > 12 or not low <= cast(text) <= high:
        raise ValueError(f"must be {kind} from {low} to {high}")
    return cast(text)


def read_matching(form: str, what: str, text: str) -> str:
    if not re.fullmatch(form, text):
        raise ValueError(f"must be {what}")  # without the text: it may be a secret
    return text


def read_flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def is_loopback(host: str) -> bool:
    """Whether the host of a URL is this machine, by its name or its address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_base_url(text: str) -> str:
    """An origin: scheme, host and perhaps a port. Lower case, without the scheme's own port."""
    must = "must be the public address without a path, as https://login.example.org"
    if not re.fullmatch(r"[!-~]+", text):  # urlsplit drops line ends and tabs
        raise ValueError(must)
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(must) from None
    if url.scheme not in ("http", "https") or not host or url.username or url.path not in ("", "/"):
        raise ValueError(must)
    if url.query or url.fragment or port == 0 or not re.fullmatch(r"[a-z0-9.:-]+", host):
        raise ValueError(must)
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError("must begin with https:// (http is for localhost only)")
    shown = f"[{host}]" if ":" in host else host
    own_port = {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{shown}" + (f":{port}" if port and port != own_port else "")


def read_service_url(text: str) -> str:
    """The address of another service: http or https, perhaps with a path, nothing else."""
    must = "must be an address, as http://ugos-auth-proxy:8080"
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise ValueError(must) from None
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError(must)
    if url.query or url.fragment:
        raise ValueError(must)
    return text.rstrip("/")


def read_consul_address(text: str) -> str:
    """As Consul's own programs take it: without a scheme it is http."""
    return read_service_url(text if "://" in text else f"http://{text}")


def read_authorities(text: str) -> str:
    """A PEM file of certificate authorities."""
    try:
        ssl.create_default_context(cafile=text)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise ValueError("must be a PEM file with certificates, that can be read") from None
    return text


def read_database_url(text: str) -> dict[str, Any]:
    if not re.match(r"(sqlite|postgres|postgresql)://", text):
        raise ValueError("must begin with sqlite:// or postgres://")
    try:
        found: dict[str, Any] = dict(dj_database_url.parse(text))
    except ValueError:
        raise ValueError("cannot be read; it is SCHEME://USER:PASSWORD@HOST:PORT/NAME") from None
    if "sqlite" in found["ENGINE"] and found["NAME"] in ("", ":memory:"):
        raise ValueError("must name a file: sqlite:///FILE")  # each connection had its own memory
    return found


def read_email_url(text: str) -> dict[str, Any]:
    """smtp://USER:PASSWORD@HOST:PORT, smtps:// for TLS from the start, smtp+tls:// for STARTTLS."""
    must = "must be smtp://, smtps:// or smtp+tls://, then USER:PASSWORD@HOST:PORT"
    try:
        found = dict(dj_database_url.parse("postgres" + text[text.index("://") :]))
        scheme, host = urlsplit(text).scheme, urlsplit(text).hostname
    except ValueError:
        raise ValueError(must) from None
    ports = {"smtp": 25, "smtps": 465, "smtp+tls": 587}
    if scheme not in ports or not host:
        raise ValueError(must)
    return {
        "EMAIL_HOST": host,
        "EMAIL_PORT": found["PORT"] or ports[scheme],
        "EMAIL_HOST_USER": found["USER"],
        "EMAIL_HOST_PASSWORD": found["PASSWORD"],
        "EMAIL_USE_SSL": scheme == "smtps",
        "EMAIL_USE_TLS": scheme == "smtp+tls",
        "EMAIL_TIMEOUT": 10,
    }


def read_networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"must be networks with commas between: {error}") from None


def read_group_map(text: str) -> dict[str, str]:
    must = 'must be JSON, as {"admin": "admins"}'
    try:
        rows = json.loads(text, object_pairs_hook=tuple)
    except ValueError:
        raise ValueError(must) from None
    if not isinstance(rows, tuple) or not all(isinstance(v, str) and v for _, v in rows):
        raise ValueError(must)
    found = dict(rows)
    if len(found) < len(rows):
        raise ValueError("must name each group of the NAS once")
    return found


class Setting(NamedTuple):
    """One environment variable: `cast` reads its text; no default means unset."""

    name: str
    cast: Callable[[str], Any]
    default: str
    meaning: str
    secret: bool = False


text_token = partial(read_matching, r"[!-~]{16,4096}", "at least 16 visible ASCII characters")
text_key = partial(read_matching, r"[^\0]{32,}", "at least 32 characters")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

SETTINGS = (
    Setting(
        "BASE_URL", read_base_url, "http://localhost:8000",
        "public address, without a path; https unless it is this machine's own",
    ),
    Setting(
        "HOST", partial(read_matching, r"[A-Za-z0-9.:%_-]+", "an address or a host name"),
        "127.0.0.1", "address that `serve` listens on",
    ),
    Setting("PORT", partial(read_number, 1, 65535), "8000", "its port"),
    Setting("WORKERS", partial(read_number, 1, 64), "1", "how many processes answer"),
    Setting("DATA_DIR", str, "/var/lib/authserver", "folder of the SQLite file and of secret_key"),
    Setting(
        "DATABASE_URL", read_database_url, "",
        "sqlite:///FILE or postgres://USER:PASSWORD@HOST/NAME; unset: SQLite in DATA_DIR",
        secret=True,
    ),
    Setting(
        "VAULT_ADDR", read_service_url, "",
        "address of a Vault, for credentials of the database and for `oauth2 publish`",
    ),
    Setting(
        "VAULT_CA", read_authorities, "",
        "PEM file of the authority that signed Vault's certificate",
    ),
    Setting(
        "VAULT_TOKEN", partial(read_matching, r"[!-~]{1,4096}", "visible ASCII characters"), "",
        "what Vault is asked with; its file is read again each time", secret=True,
    ),
    Setting(
        "VAULT_DATABASE_PATH", str, "",
        "where the database's credentials are, as database/creds/authserver",
    ),
    Setting("DATABASE_NAME", str, "", "name of the database, with Vault"),
    Setting("DATABASE_PARENTROLE", str, "", "role to take after each connect, with Vault"),
    Setting(
        "CONSUL_HTTP_ADDR", read_consul_address, "",
        "address of a Consul, for `oauth2 publish`; and so the two below",
    ),
    Setting(
        "CONSUL_HTTP_TOKEN", partial(read_matching, r"[!-~]{1,4096}", "visible ASCII characters"),
        "", "what Consul is asked with", secret=True,
    ),
    Setting(
        "CONSUL_CACERT", read_authorities, "",
        "PEM file of the authority that signed Consul's certificate",
    ),
    Setting(
        "SECRET_KEY", text_key, "",
        "signs cookies and links, at least 32 characters; unset: made once in DATA_DIR",
        secret=True,
    ),
    Setting(
        "TRUSTED_PROXIES", read_networks, "",
        "networks of the proxies in front, whose X-Forwarded-For and -Proto are believed",
    ),
    Setting("UGOS_AUTH_PROXY_URL", read_service_url, "", "where ugos-auth-proxy answers"),
    Setting("UGOS_AUTH_PROXY_TOKEN", text_token, "", "its AUTH_TOKEN", secret=True),
    Setting(
        "UGOS_AUTH_PROXY_CA", read_authorities, "",
        "PEM file of the authority that signed its certificate",
    ),
    Setting(
        "GROUP_MAP", read_group_map, '{"admin": "admins", "family": "family"}',
        "which group of the NAS is which group here, as JSON",
    ),
    Setting(
        "NAS_RECHECK", partial(read_number, 1, 3600), "60",
        "seconds after which the NAS is asked again about an account that is in use",
    ),
    Setting(
        "NAS_GRACE", partial(read_number, 0, 86_400), "900",
        "seconds for which its last answer counts while it cannot be reached",
    ),
    Setting(
        "SESSION_HOURS", partial(read_number, 1, 8760), "336",
        "life of a browser session since its last use",
    ),
    Setting(
        "SESSION_COOKIE_NAME", partial(read_matching, r"[A-Za-z0-9_-]{1,64}", "a name"),
        "authserver", "name of its cookie",
    ),
    Setting(
        "REFUSAL_SECONDS", partial(read_number, 0, 5, cast=float), "1.5",
        "seconds that a refusal of a name and password takes at least",
    ),
    Setting(
        "MAX_FAILURES", partial(read_number, 0, 1_000_000), "10",
        "refusals of a name from one client until 429; 0: never",
    ),
    Setting(
        "FAILURE_WINDOW", partial(read_number, 1, 86_400), "300",
        "seconds over which refusals are counted",
    ),
    Setting(
        "CHECKPASSWORD_TOKEN", text_token, "",
        "what programs send that ask /checkpassword/ without a password, at least 16 characters",
        secret=True,
    ),
    Setting(
        "CHECKPASSWORD_OPEN", read_flag, "false",
        "true: anyone may ask there without a password who exists and what he may do",
    ),
    Setting(
        "EMAIL_URL", read_email_url, "",
        "smtp://, smtps:// or smtp+tls://USER:PASSWORD@HOST:PORT for mail to users; unset: none",
        secret=True,
    ),
    Setting(
        "EMAIL_FROM", partial(read_matching, r"[^\r\n]+@[^\r\n]+", "an e-mail address"),
        "", "its sender",
    ),
    Setting(
        "LOG_LEVEL", partial(read_matching, "|".join(LEVELS), "one of " + ", ".join(LEVELS)),
        "INFO", ", ".join(LEVELS),
    ),
)  # fmt: skip


# --- From the environment to values -------------------------------------------------------------


def read_appconfig(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the appconfig folder, as envdir(8) reads it; {} where there is none."""
    folder = Path(environ.get("APPCONFIG_DIR") or APPCONFIG_DIR) / "env"
    found = {}
    try:
        for file in folder.iterdir():
            if file.is_file() and not file.name.startswith("."):
                line = file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[0]
                found[file.name] = line.rstrip(" \t").replace("\0", "\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSetting(f"APPCONFIG_DIR: {folder} cannot be read: {error.strerror}") from None
    return found


def read_text(setting: Setting, environ: Mapping[str, str]) -> tuple[str, str]:
    """The text of a setting and the variable that it came from; raises BadSetting."""
    text, file = environ.get(setting.name, ""), ""
    if setting.secret:
        file = environ.get(f"{setting.name}_FILE", "")
    if text and file:
        raise BadSetting(f"{setting.name} and {setting.name}_FILE: set only one of them")
    if not file:
        return text or setting.default, setting.name
    name = f"{setting.name}_FILE"
    try:
        text = re.sub(r"\r?\n\Z", "", Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"{name}: {file!r} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadSetting(f"{name}: {file!r} is not UTF-8") from None
    if not text:
        raise BadSetting(f"{name}: {file!r} is empty")
    return text, name


class Environment:
    """The values of `SETTINGS` by their names in lower case, None where unset.

    `given` says of each whether it was set. BadSetting names a variable that cannot be used.
    """

    def __getattr__(self, name: str) -> Any:  # says to the type checker that there are some
        raise AttributeError(name)

    def __init__(self, environ: Mapping[str, str]) -> None:
        environ = {**read_appconfig(environ), **{k: v for k, v in environ.items() if v}}
        self.environ = environ
        self.texts: dict[str, str] = {}
        self.given: set[str] = set()
        for setting in SETTINGS:
            text, name = read_text(setting, environ)
            try:
                setattr(self, setting.name.lower(), setting.cast(text) if text else None)
            except ValueError as error:
                raise BadSetting(f"{name}: {error}") from None
            self.texts[setting.name] = text
            if environ.get(name):
                self.given.add(setting.name)
        self.check()

    def check(self) -> None:
        """What one variable alone cannot tell."""
        if self.base_url.startswith("https:") and not self.trusted_proxies:
            raise BadSetting(
                "TRUSTED_PROXIES: must be set with an https BASE_URL, to the network of the proxy "
                "that speaks https, as 127.0.0.0/8"
            )
        if self.ugos_auth_proxy_url and not self.ugos_auth_proxy_token:
            raise BadSetting("UGOS_AUTH_PROXY_TOKEN: must be set with UGOS_AUTH_PROXY_URL")
        self.check_vault()
        if self.is_postgresql() and not self.secret_key:
            raise BadSetting("SECRET_KEY: must be set with PostgreSQL, the same for every process")
        if self.email_url and not self.email_from:
            raise BadSetting("EMAIL_FROM: must be set with EMAIL_URL")

    def is_postgresql(self) -> bool:
        """Whether the database is PostgreSQL; else it is SQLite."""
        if self.vault_database_path:
            return True
        return bool(self.database_url) and "postgresql" in self.database_url["ENGINE"]

    def check_vault(self) -> None:
        """A Vault has the database's credentials, or it is only published into."""
        used_with = {
            "VAULT_ADDR": ("VAULT_TOKEN", "VAULT_CA", "VAULT_DATABASE_PATH"),
            "VAULT_DATABASE_PATH": ("DATABASE_NAME", "DATABASE_PARENTROLE"),
        }
        for first, names in used_with.items():
            for name in names:
                if self.texts[name] and not self.texts[first]:
                    raise BadSetting(f"{name}: is used with {first} only")
        for name, first in (
            ("VAULT_TOKEN", "VAULT_ADDR"),
            ("DATABASE_NAME", "VAULT_DATABASE_PATH"),
        ):
            if self.texts[first] and not self.texts[name]:
                raise BadSetting(f"{name}: must be set with {first}")
        sqlite = self.database_url and "postgresql" not in self.database_url["ENGINE"]
        if self.vault_database_path and sqlite:
            raise BadSetting("DATABASE_URL: must be postgres:// with VAULT_DATABASE_PATH, or unset")

    def read_again(self, name: str) -> str:
        """The text of a setting as it is now: its file may have been replaced; raises BadSetting.

        Programs that renew a token (Vault Agent's sinks) write the new one over the old.
        """
        setting = next(setting for setting in SETTINGS if setting.name == name)
        return read_text(setting, self.environ)[0]


def make_secret_key(data_dir: str) -> str:
    """The key in DATA_DIR/secret_key, made once, readable by its owner only; raises BadSetting."""
    path = Path(data_dir) / "secret_key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            made = path.with_name(
                f".secret_key.{secrets.token_hex(8)}"
            )  # process 1 of each container
            with open(made, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_hex(48))
            try:
                os.link(made, path)  # of two processes that make one at once, one wins
            except FileExistsError:
                pass
            made.unlink()
        return text_key(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise BadSetting(f"DATA_DIR: {path} cannot be used: {error.strerror}") from None
    except ValueError:
        raise BadSetting(f"DATA_DIR: {path} is damaged: restore it from a backup") from None
