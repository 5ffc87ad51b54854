"""Domains and their keys. A key itself is on no page."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from authserver.accounts import addresses
from authserver.accounts.models import Domain
from authserver.admin import Model, Seen, actor, become
from authserver.domains.keys import make_key
from authserver.domains.models import DomainKey


@admin.register(Domain)
class DomainAdmin(Model):
    list_display = ("name", "jwt_sign_subdomains", "kinds")
    search_fields = ("name",)
    fields = ("name", "jwt_sign_subdomains", "kinds")
    tools = (("make_jwt_key", "Make a JWT key"),)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "kinds") if obj else ("kinds",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("keys")

    @admin.display(description="Keys")
    def kinds(self, obj: Domain) -> str:
        if obj._state.adding:
            return "none yet"
        return ", ".join(key.get_kind_display() for key in obj.keys.all()) or "none"

    def tools_of(self, obj: Domain) -> Any:
        return () if obj.keys.filter(kind=DomainKey.JWT).exists() else self.tools

    def save_model(self, request: HttpRequest, obj: Domain, form: Any, change: bool) -> None:
        if not change:
            made = addresses.create_domain(form.cleaned_data["name"], actor(request))
            wanted = obj.jwt_sign_subdomains
            become(obj, made)
            if not wanted:
                return
            obj.jwt_sign_subdomains = wanted
        super().save_model(request, obj, form, True)

    def delete_model(self, request: HttpRequest, obj: Domain) -> None:
        addresses.remove_domain(obj, actor(request))

    def make_jwt_key(self, request: HttpRequest, obj: Domain) -> None:
        if not self.tools_of(obj):
            raise ValidationError("The domain has a JWT key already.")
        make_key(obj, DomainKey.JWT, actor(request))
        self.message_user(request, f"{obj} has a JWT key now.")


@admin.register(DomainKey)
class DomainKeyAdmin(Seen):
    fields = list_display = ("domain", "kind", "created_at")
    list_select_related = ("domain",)
    list_filter = ("kind",)
    search_fields = ("domain__name",)
