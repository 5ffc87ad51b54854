"""Logging: JSON lines on stderr."""

import json
import logging
import logging.config
import time
from typing import Any


class JsonLines(logging.Formatter):
    """One JSON object a line. Of an exception it says where it came from, never its message or
    values, which may hold what a user typed."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "event": event_of(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            at, trace = [], record.exc_info[2]
            while trace:
                code = trace.tb_frame.f_code
                at.append(f"{code.co_qualname}:{trace.tb_lineno}")
                trace = trace.tb_next
            line["at"] = at[-8:]
        return json.dumps(line, default=str)


def event_of(record: logging.LogRecord) -> str:
    """What happened. Django's own lines name paths, which may have a token in them, and values of
    the request: only their pattern is told."""
    if record.name == "django.request":
        return f"{record.name}: {getattr(record, 'status_code', '')}"
    if record.name.startswith("django.security"):
        return record.name
    if record.name.startswith("django"):
        return f"{record.name}: {record.msg}".removesuffix(": %s")
    return record.getMessage()


def set_up(level: str) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # the link of the first start is told whatever the level
                "authserver.accounts.setup": {"level": "WARNING"},
                # these repeat paths, queries and values of requests, or what anybody may send
                "uvicorn.access": {"level": "CRITICAL"},
                "uvicorn.error": {"level": "ERROR"},
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                "django.request": {"level": "ERROR"},
                "django.db.backends": {"level": "INFO"},
                "django.template": {"level": "INFO"},
                "asyncio": {"level": "INFO"},
            },
        }
    )
