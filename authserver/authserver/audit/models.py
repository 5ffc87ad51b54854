"""The audit log: who did what, when and from where."""

from django.db import models
from django.utils import timezone


class Event(models.Model):
    """One thing that happened. The names are copies: an event outlives what it speaks of."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    kind = models.CharField(max_length=40)
    actor = models.CharField(max_length=150, blank=True, help_text="Who did it.")
    subject = models.CharField(max_length=254, blank=True, help_text="The account it is about.")
    application = models.CharField(max_length=200, blank=True)
    client = models.CharField(max_length=45, blank=True, help_text="From which address.")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-at", "-pk")
        indexes = [models.Index(fields=["subject", "-at"], name="event_subject")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind} {self.subject}"
