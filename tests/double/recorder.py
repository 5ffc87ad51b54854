"""What authentik writes down: its event table and its log."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """A row of the event table; the values of its context are kept as text."""

    action: str
    context: dict[str, str]


EVENTS: list[Event] = []
LOG: list[str] = []


def add_event(action: str, **context: object) -> None:
    EVENTS.append(Event(action, {key: str(value) for key, value in context.items()}))


def clear() -> None:
    EVENTS.clear()
    LOG.clear()


class Logger:
    """structlog's bound logger: an event and keywords. Every call is kept as one line of text,
    debug too."""

    def __init__(self, **bound: object) -> None:
        self._bound = bound

    def bind(self, **more: object) -> "Logger":
        return Logger(**self._bound, **more)

    def debug(self, event: str, **keywords: object) -> None:
        self._write("debug", event, keywords)

    def info(self, event: str, **keywords: object) -> None:
        self._write("info", event, keywords)

    def warning(self, event: str, **keywords: object) -> None:
        self._write("warning", event, keywords)

    def error(self, event: str, **keywords: object) -> None:
        self._write("error", event, keywords)

    def _write(self, level: str, event: str, keywords: dict[str, object]) -> None:
        words = [f"{key}={value!r}" for key, value in (self._bound | keywords).items()]
        LOG.append(" ".join([level, str(event), *words]))
