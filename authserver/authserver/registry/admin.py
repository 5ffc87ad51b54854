"""Docker registries, repositories and who may do what there. A key is on no page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from authserver.admin import Inline, Model, Seen, actor
from authserver.registry import keys
from authserver.registry.models import (
    DockerRegistry,
    DockerRepo,
    RegistryKey,
    RegistryRefreshToken,
    RepoRight,
)
from authserver.registry.tokens import end_refresh_token


@admin.register(DockerRegistry)
class DockerRegistryAdmin(Model):
    list_display = ("name", "client_id", "domain")
    list_select_related = ("domain",)
    search_fields = ("name", "client_id")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            keys.make_key(obj)


class Rights(Inline):
    model = RepoRight
    verbose_name_plural = "rights; of everybody, where there is neither a user nor a group"


@admin.register(DockerRepo)
class DockerRepoAdmin(Model):
    list_display = ("name", "registry")
    list_select_related = ("registry",)
    list_filter = ("registry",)
    search_fields = ("name",)
    inlines = (Rights,)


@admin.register(RepoRight)
class RepoRightAdmin(Model):
    list_display = ("repo", "user", "group", "may_pull", "may_push", "may_delete")
    list_select_related = ("repo", "user", "group")
    search_fields = ("repo__name", "user__identifier_key", "group__name")


@admin.register(RegistryKey)
class RegistryKeyAdmin(Seen):
    fields = list_display = ("registry", "created_at", "ended_at")
    list_select_related = ("registry",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a registry has one that signs


@admin.register(RegistryRefreshToken)
class RegistryRefreshTokenAdmin(Seen):
    fields = list_display = (
        "user",
        "service_user",
        "registry",
        "client_id",
        "client",
        "created_at",
        "last_used",
    )
    list_select_related = ("user", "service_user", "registry")
    search_fields = ("user__identifier_key", "client")
    ordering = ("-last_used",)

    def delete_model(self, request: HttpRequest, obj: RegistryRefreshToken) -> None:
        end_refresh_token(obj, actor(request))
