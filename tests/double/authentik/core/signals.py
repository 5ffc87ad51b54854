"""authentik/core/signals.py: the signal that the event log and the reputation policies listen
to."""

from django.dispatch import Signal

login_failed = Signal()
