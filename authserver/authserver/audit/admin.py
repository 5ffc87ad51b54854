"""The audit log: who did what, when and from where. It is only read."""

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from authserver.admin import Seen
from authserver.audit.models import Event


@admin.register(Event)
class EventAdmin(Seen):
    list_display = ("at", "kind", "subject", "actor", "application", "client", "more")
    list_filter = ("kind",)
    search_fields = ("subject", "actor", "client", "application", "kind")
    date_hierarchy = "at"

    @admin.display(description="Details")
    def more(self, obj: Event) -> str:
        return ", ".join(f"{name}: {json.dumps(value)}" for name, value in obj.details.items())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
