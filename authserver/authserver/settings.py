"""Django's settings, made of the table in `environment.py`."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from authserver.environment import Environment, make_secret_key

ENV = Environment(os.environ)

BASE_URL: str = ENV.base_url
HTTPS = BASE_URL.startswith("https:")
SECRET_KEY: str = ENV.secret_key or make_secret_key(ENV.data_dir)
DEBUG = False
ALLOWED_HOSTS = ["*"]  # `PublicAddress` is stricter: it compares the port as well

INSTALLED_APPS = [
    "authserver.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "authserver.accounts",
    "authserver.oidc",
    "authserver.audit",
    "authserver.portal",
    "authserver.domains",
    "authserver.registry",
]

# From the outside in. `Waits` stands outside of all of them, which use a thread (`handler.py`).
MIDDLEWARE = [
    "authserver.waits.LetGo",
    "authserver.http.PublicAddress",
    "authserver.http.SecurityHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "authserver.accounts.sessions.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "authserver.accounts.sessions.UserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "authserver.urls"
ASGI_APPLICATION = "authserver.asgi.application"
APPEND_SLASH = False

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(ENV.data_dir) / "db.sqlite3")}
DATABASE: dict[str, Any] = dict(ENV.database_url or SQLITE)
if ENV.vault_database_path:  # which gives the user and the password; DATABASE_URL may say where
    elsewhere = ENV.database_url or {"HOST": "localhost", "PORT": 5432}
    DATABASE = {**elsewhere, "ENGINE": "authserver.vaultdb", "NAME": ENV.database_name}
DATABASE.setdefault("OPTIONS", {})
if not ENV.is_postgresql():
    DATABASE["CONN_MAX_AGE"] = None
    DATABASE["OPTIONS"] |= {
        "timeout": 20,  # seconds that a writer waits for another
        "transaction_mode": "IMMEDIATE",  # a read that turns into a write could not wait
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;",
    }
else:
    DATABASE["OPTIONS"].setdefault("connect_timeout", 5)
    if not ENV.vault_database_path:  # a pool would go on with credentials that have ended
        DATABASE["OPTIONS"] |= {"pool": {"min_size": 0, "max_size": 16, "timeout": 10}}
DATABASES = {"default": DATABASE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["authserver.accounts.sessions.Backend"]
PASSWORD_HASHERS = ["authserver.accounts.passwords.Hasher"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
PASSWORD_RESET_TIMEOUT = 24 * 3600

SESSION_ENGINE = "authserver.accounts.sessions"
SESSION_COOKIE_NAME: str = ENV.session_cookie_name
SESSION_COOKIE_AGE: int = ENV.session_hours * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = f"{SESSION_COOKIE_NAME}_csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = HTTPS
CSRF_TRUSTED_ORIGINS = [BASE_URL]
CSRF_FAILURE_VIEW = "authserver.http.csrf_failure"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = "authserver.formats"

STATIC_URL = "/static/"
STATICFILES_DIRS = [Path(__file__).parent / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
X_FRAME_OPTIONS = "DENY"

if ENV.email_url:
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    globals().update(ENV.email_url)
else:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
DEFAULT_FROM_EMAIL: str = ENV.email_from or f"authserver@{urlsplit(BASE_URL).hostname}"

LOGGING_CONFIG = None  # `authserver.log` sets it up
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024  # of any body: `authserver.protocol`
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
