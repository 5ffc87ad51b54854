"""What users have open, and what is known of them."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from authserver.accounts.models import KnownClient, KnownDevice, NasStanding, Session, SetupToken
from authserver.accounts.sessions import end_session_by, session_of
from authserver.admin import Listed, Seen, actor
from authserver.portal.browsers import browser_of


@admin.register(Session)
class SessionAdmin(Listed):
    """The key of a session is a digest: its row is named by `sid`, and ended from the list."""

    list_display = ("user", "browser", "client", "authenticated_at", "last_used", "amr", "end")
    list_select_related = ("user",)
    search_fields = ("user__identifier_key", "client")
    ordering = ("-last_used",)
    sortable_by = ("authenticated_at", "last_used")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).exclude(user=None)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.end_one))
        return [path("<uuid:sid>/end/", view, name="accounts_session_end"), *super().get_urls()]

    @admin.display(description="Browser")
    def browser(self, obj: Session) -> str:
        return browser_of(obj.user_agent)

    @admin.display(description="End it")
    def end(self, obj: Session) -> str:
        """A button of the list's own form."""
        url = reverse("admin:accounts_session_end", args=[obj.sid])
        label = f"End the session of {obj.user} in {self.browser(obj)}"
        return format_html('<button formaction="{}" aria-label="{}">End</button>', url, label)

    def end_one(self, request: HttpRequest, sid: UUID) -> HttpResponse:
        session = get_object_or_404(Session, sid=sid)
        if session == session_of(request):
            self.message_user(request, "This is your own session: sign out to end it.")
            return redirect("admin:accounts_session_changelist")
        end_session_by(session, actor(request))
        self.message_user(request, f"The session of {session.user} has ended.")
        return redirect("admin:accounts_session_changelist")


@admin.register(KnownClient)
class KnownClientAdmin(Seen):
    list_display = ("user", "network", "last_login")
    list_select_related = ("user",)
    search_fields = ("user__identifier_key", "network")
    ordering = ("-last_login",)


@admin.register(KnownDevice)
class KnownDeviceAdmin(Seen):
    fields = list_display = ("user", "last_login")
    list_select_related = ("user",)
    search_fields = ("user__identifier_key",)
    ordering = ("-last_login",)


@admin.register(NasStanding)
class NasStandingAdmin(Seen):
    list_display = ("user", "good", "answered_at", "failed_at")
    list_select_related = ("user",)
    search_fields = ("user__identifier_key",)
    ordering = ("-answered_at",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(SetupToken)
class SetupTokenAdmin(Seen):
    fields = list_display = ("created_at",)  # the token itself opens a page
