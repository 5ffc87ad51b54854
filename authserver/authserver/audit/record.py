"""Writing the audit log: to the database, and as a JSON line on stderr."""

import datetime
import logging
from typing import Any

from django.utils import timezone

from authserver.audit.models import Event

DAYS = 90  # how long an event is kept
log = logging.getLogger("authserver.audit")


def record(
    kind: str,
    *,
    actor: object = "",
    subject: object = "",
    application: object = "",
    client: str = "",
    **details: Any,
) -> None:
    """Write one event. No value may be a secret; a typed name only where such an account exists."""
    fields = {
        "actor": str(actor or ""),
        "subject": str(subject or ""),
        "application": str(application or ""),
        "client": client,
    }
    Event.objects.create(kind=kind, details=details, **fields)
    log.info(kind, extra={"fields": {k: v for k, v in fields.items() if v} | details})


def clear_old(batch: int = 1000) -> int:
    """Delete a batch of events past their time; how many it were."""
    before = timezone.now() - datetime.timedelta(days=DAYS)
    old = Event.objects.filter(at__lt=before).values_list("pk", flat=True)[:batch]
    return Event.objects.filter(pk__in=list(old)).delete()[0]
