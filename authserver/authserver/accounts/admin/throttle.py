"""Names with failed logins: which are locked out, and letting one try again."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from authserver.accounts import throttle
from authserver.accounts.models import Refusal
from authserver.admin import Seen, actor


@admin.register(Refusal)
class RefusalAdmin(Seen):
    """Shown by name, as they count; there is no page of a single one."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.unlock))
        return [
            path("<int:number>/unlock/", view, name="accounts_refusal_unlock"),
            *super().get_urls(),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_object(self, *args: Any, **kwargs: Any) -> None: ...

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Failed logins",
            "opts": self.opts,
            "names": throttle.refused_names(),
            "minutes": settings.ENV.failure_window // 60,
        }
        return TemplateResponse(request, "admin/failed_logins.html", context)

    def unlock(self, request: HttpRequest, number: int) -> HttpResponse:
        found = throttle.refused_name(number)
        if found:
            throttle.unlock(found.digest, actor(request), found.user)
        self.message_user(request, "The failed logins of this name are forgotten.")
        return redirect("admin:accounts_refusal_changelist")
