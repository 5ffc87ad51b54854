"""Mail to users: sent beside the requests, so that no answer waits for a mail server."""

import logging
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

MOST_WAITING = 1000
log = logging.getLogger(__name__)
# its threads are awaited when the process ends: what was begun is sent
threads = ThreadPoolExecutor(2, thread_name_prefix="mail")


def is_set_up() -> bool:
    """Whether there is a mail server; where there is none, administrators hand on the links."""
    return bool(settings.ENV.email_url)


def send(address: str, subject: str, text: str) -> None:
    """Send a mail once the transaction is through. One that cannot be sent is only logged."""
    if not is_set_up():
        return
    if threads._work_queue.qsize() >= MOST_WAITING:
        log.error("mail.failed", extra={"fields": {"reason": "too many are waiting"}})
        return
    message = EmailMessage(
        subject,
        text,
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},  # RFC 3834: no out-of-office answers
    )
    transaction.on_commit(lambda: threads.submit(deliver, message))


def deliver(message: EmailMessage) -> None:
    try:
        message.send()
    except Exception:  # the message would tell the link
        log.exception("mail.failed")
