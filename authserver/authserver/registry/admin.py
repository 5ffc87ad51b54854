"""Docker registries, repositories and who may do what there. A key is on no page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from authserver.admin import Inline, Model, Seen, actor, become
from authserver.registry import registries
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
    tools = (("rotate_key", "Sign with a new key"),)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        become(obj, registries.create_registry(actor(request), **form.cleaned_data))

    def delete_model(self, request: HttpRequest, obj: DockerRegistry) -> None:
        registries.remove_registry(obj, actor(request))

    def rotate_key(self, request: HttpRequest, obj: DockerRegistry) -> None:
        registries.rotate_key(obj, actor(request))
        self.message_user(request, "Give the registry the new bundle: dockerauth registry show.")


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

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("registry", "name") if obj else ()

    def save_model(self, request: HttpRequest, obj: DockerRepo, form: Any, change: bool) -> None:
        if not change:
            given = form.cleaned_data
            become(obj, registries.create_repo(given["registry"], given["name"], actor(request)))

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Rights, each by the rule: what a row was is revoked, what it is now is granted."""
        formset.save(commit=False)
        edited = [row for row, _ in formset.changed_objects]
        for row in (*edited, *formset.deleted_objects):
            was = RepoRight.objects.get(pk=row.pk)
            self.change_rights(request, was, allowed=False)
        for row in (*edited, *formset.new_objects):
            self.change_rights(request, row, allowed=True)

    def change_rights(self, request: HttpRequest, row: RepoRight, *, allowed: bool) -> None:
        holder, by = row.user or row.group, actor(request)
        registries.change_rights(row.repo, holder, row.actions, by, allowed=allowed)

    def delete_model(self, request: HttpRequest, obj: DockerRepo) -> None:
        registries.remove_repo(obj, actor(request))


@admin.register(RepoRight)
class RepoRightAdmin(Seen):
    """They are given on the page of their repository."""

    list_display = ("repo", "user", "group", "may_pull", "may_push", "may_delete")
    list_select_related = ("repo", "user", "group")
    search_fields = ("repo__name", "user__identifier_key", "group__name")

    def delete_model(self, request: HttpRequest, obj: RepoRight) -> None:
        holder, by = obj.user or obj.group, actor(request)
        registries.change_rights(obj.repo, holder, obj.actions, by, allowed=False)


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
