"""Applications, what was granted to them, and the issuer's keys. No secret is on any page."""

import base64
from typing import IO, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from authserver.accounts.models import Permission
from authserver.admin import Listed, Model, Seen, actor, become, others, shown_once
from authserver.oidc import applications, consent, keys
from authserver.oidc.models import (
    Application,
    Consent,
    DeviceCode,
    Grant,
    SigningKey,
    Token,
    check_icon,
)
from authserver.oidc.tokens import end_grant

VALUES = (
    "client_type",
    "authorization_code",
    "client_credentials",
    "device_code",
    "redirect_uris",
    "post_logout_redirect_uris",
    "skip_authorization",
    "skip_pkce",
    "allow_http",
    "resource_server",
    "domain",
    "link",
    "icon",
)


def icon_of(file: IO[bytes]) -> str:
    """A picture as a data: URL; raises ValidationError where it is none that browsers show."""
    content = file.read(65_536)
    kinds = {b"\x89PNG\r\n": "png", b"RIFF": "webp", b"<svg": "svg+xml", b"<?xml": "svg+xml"}
    kind = next((kind for start, kind in kinds.items() if content.startswith(start)), "")
    url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    check_icon(url)
    return url


class ApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    picture = forms.FileField(
        label="Icon", required=False, help_text="PNG, SVG or WebP, below 48 kB."
    )
    no_picture = forms.BooleanField(label="Remove the icon", required=False)

    class Meta:
        model = Application
        fields = (
            "name",
            *(name for name in VALUES if name != "icon"),
            "required_permissions",
            "permissions",
        )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("no_picture"):
            self.instance.icon = ""
        elif given.get("picture"):
            try:
                self.instance.icon = icon_of(given["picture"])
            except ValidationError as error:
                self.add_error("picture", error)
        return given


@admin.register(Application)
class ApplicationAdmin(Model):
    form = ApplicationForm
    list_display = ("name", "client_id", "client_type", "skip_authorization", "created_at")
    search_fields = ("name", "client_id")
    list_filter = ("client_type",)
    readonly_fields = ("client_id", "created_at")
    tools = (("reset_secret", "New secret"),)
    new_fieldsets = (
        (None, {"fields": ("name", "client_type", "redirect_uris")}),
        ("Who may use it", {"fields": ("required_permissions", "skip_authorization")}),
        ("On the page “Applications”", {"fields": ("link", "picture")}),
        (
            "More",
            {
                "fields": (
                    ("authorization_code", "device_code", "client_credentials"),
                    "permissions",
                    "post_logout_redirect_uris",
                    ("skip_pkce", "allow_http", "resource_server"),
                    "domain",
                )
            },
        ),
    )
    change_fieldsets = (
        (None, {"fields": ("name", "client_id", "client_type", "redirect_uris", "created_at")}),
        new_fieldsets[1],
        ("On the page “Applications”", {"fields": ("link", "picture", "no_picture")}),
        new_fieldsets[3],
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.change_fieldsets if obj else self.new_fieldsets

    def tools_of(self, obj: Application) -> Any:
        return () if obj.is_public else self.tools

    def save_model(self, request: HttpRequest, obj: Application, form: Any, change: bool) -> None:
        values = {name: getattr(obj, name) for name in VALUES}
        if change:
            was = Application.objects.get(pk=obj.pk)
            applications.edit_application(was, actor(request), name=obj.name, **values)
            return
        made, secret = applications.create_application(obj.name, actor(request), **values)
        become(obj, made)
        request.made_secret = secret  # type: ignore[attr-defined]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Replaces saving permissions: each change is of a rule."""
        obj, by = form.instance, actor(request)
        required, granted = (
            form.cleaned_data["required_permissions"],
            form.cleaned_data["permissions"],
        )
        applications.require(obj, required, by)
        applications.drop(obj, others(Permission.objects.filter(required_by=obj), required), by)
        applications.give(obj, granted, by)
        applications.take(obj, others(Permission.objects.filter(applications=obj), granted), by)

    def response_add(
        self, request: HttpRequest, obj: Application, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self.show(request, obj, request.made_secret)  # type: ignore[attr-defined]

    def reset_secret(self, request: HttpRequest, obj: Application) -> HttpResponse:
        return self.show(request, obj, applications.reset_secret(obj, actor(request)))

    def show(self, request: HttpRequest, obj: Application, secret: str) -> HttpResponse:
        rows = [("Client id", obj.client_id)]
        text = "Give this to the application."
        if secret:
            rows.append(("Client secret", secret))
            text = "Give both to the application now: the secret is kept nowhere."
        return shown_once(
            self.admin_site, request, str(obj), rows, text=text, next=self.url_of("change", obj)
        )

    def delete_model(self, request: HttpRequest, obj: Application) -> None:
        applications.remove_application(obj, actor(request))


@admin.register(Consent)
class ConsentAdmin(Seen):
    fields = list_display = ("user", "application", "scope", "given_at")
    list_select_related = ("user", "application")
    search_fields = ("user__identifier_key", "application__name")
    ordering = ("-given_at",)

    def delete_model(self, request: HttpRequest, obj: Consent) -> None:
        consent.take_back(obj.user, obj.application, actor(request))


@admin.register(Grant)
class GrantAdmin(Seen):
    fields = list_display = (
        "application",
        "user",
        "scope",
        "offline",
        "created_at",
        "last_used",
        "expires_at",
    )
    list_select_related = ("user", "application")
    list_filter = ("application", "offline")
    search_fields = ("user__identifier_key", "application__name")
    ordering = ("-last_used",)

    def delete_model(self, request: HttpRequest, obj: Grant) -> None:
        end_grant(obj, f"by {actor(request)}")


@admin.register(Token)
class TokenAdmin(Listed):
    list_display = ("grant", "kind", "created_at", "used_at", "expires_at")
    list_select_related = ("grant__user", "grant__application")
    list_filter = ("kind",)
    ordering = ("-created_at",)


@admin.register(DeviceCode)
class DeviceCodeAdmin(Listed):
    list_display = ("application", "user", "scope", "state", "created_at", "expires_at")
    list_select_related = ("user", "application")
    ordering = ("-created_at",)


@admin.register(SigningKey)
class SigningKeyAdmin(Seen):
    fields = list_display = ("kid", "state", "created_at", "signs_from")
    tools = (("rotate", "Publish a new key"),)

    @admin.display(description="State")
    def state(self, obj: SigningKey) -> str:
        return keys.state_of(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def rotate(self, request: HttpRequest, _obj: SigningKey) -> None:
        made = keys.rotate(actor=actor(request))
        self.message_user(request, f"{made.kid} is published, and signs from an hour from now.")
