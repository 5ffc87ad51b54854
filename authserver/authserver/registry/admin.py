"""Docker registries, repositories and who may do what there. A key is on no page."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.checks import InlineModelAdminChecks
from django.core.exceptions import ValidationError
from django.forms import modelformset_factory
from django.http import HttpRequest

from authserver.admin import Inline, Model, Seen, actor, become
from authserver.registry import registries
from authserver.registry.models import (
    DockerRegistry,
    DockerRepo,
    RegistryKey,
    RegistryRefreshToken,
    RepoRight,
    check_repo_name,
)
from authserver.registry.tokens import end_refresh_token


class RightForm(forms.ModelForm):  # type: ignore[type-arg]
    """A right, with the name of its repository, which need not be there yet."""

    repository = forms.CharField(
        validators=[check_repo_name], help_text="family/app, or family/* for all below."
    )

    class Meta:
        model = RepoRight
        fields = ("user", "group", "may_pull", "may_push", "may_delete")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["repository"] = self.instance.repo.name

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("user") and given.get("group"):
            raise ValidationError("A right is a user's or a group's: make two of them.")
        return given


class RightsFormSet(forms.BaseModelFormSet):  # type: ignore[type-arg]
    """The rights in the repositories of a registry, `instance`."""

    def __init__(
        self,
        data: Any = None,
        files: Any = None,
        instance: DockerRegistry | None = None,
        prefix: str | None = None,
        queryset: Any = None,
        save_as_new: bool = False,
    ) -> None:
        self.instance = instance
        rows = queryset.filter(repo__registry=instance).select_related("repo", "user")
        super().__init__(data, files, prefix=prefix, queryset=rows.order_by("repo__name", "pk"))


class NoForeignKey(InlineModelAdminChecks):
    """A right hangs on its registry by the repository: no column says it."""

    def _check_relation(self, *_: Any) -> list[Any]:
        return []

    def _check_exclude_of_parent_model(self, *_: Any) -> list[Any]:
        return []


class RightsInRegistry(Inline):
    model = RepoRight
    checks_class = NoForeignKey
    fields = ("repository", "user", "group", "may_pull", "may_push", "may_delete")
    verbose_name = "right"
    verbose_name_plural = "rights; of everybody, where there is neither a user nor a group"

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        return modelformset_factory(
            RepoRight,
            form=RightForm,
            formset=RightsFormSet,
            extra=self.extra,
            can_delete=True,
            formfield_callback=partial(self.formfield_for_dbfield, request=request),
        )


def save_rights(formset: Any, by: str) -> None:
    """Rights, each by the rule: what a row was is revoked, what it is now is granted."""
    formset.save(commit=False)
    edited = [row for row, _ in formset.changed_objects]
    for row in (*edited, *formset.deleted_objects):
        change_rights(RepoRight.objects.get(pk=row.pk), by, allowed=False)
    for row in (*edited, *formset.new_objects):
        change_rights(row, by, allowed=True)


def change_rights(row: RepoRight, by: str, *, allowed: bool) -> None:
    registries.change_rights(row.repo, row.user or row.group, row.actions, by, allowed=allowed)


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

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return (RightsInRegistry,) if obj else ()

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        registry: DockerRegistry = form.instance
        for each in formset.forms:
            if each.has_changed() and each not in formset.deleted_forms:
                name, by = each.cleaned_data["repository"], actor(request)
                repo = registries.find_repo(registry, name)
                each.instance.repo = repo or registries.create_repo(registry, name, by)
        save_rights(formset, actor(request))

    def delete_model(self, request: HttpRequest, obj: DockerRegistry) -> None:
        registries.remove_registry(obj, actor(request))

    def rotate_key(self, request: HttpRequest, obj: DockerRegistry) -> None:
        registries.rotate_key(obj, actor(request))
        self.message_user(request, "Give the registry the new bundle: dockerauth registry show.")


class Rights(Inline):
    model = RepoRight
    verbose_name = "right"
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
        save_rights(formset, actor(request))

    def delete_model(self, request: HttpRequest, obj: DockerRepo) -> None:
        registries.remove_repo(obj, actor(request))


@admin.register(RepoRight)
class RepoRightAdmin(Seen):
    """They are given on the page of their repository."""

    list_display = ("repo", "user", "group", "may_pull", "may_push", "may_delete")
    list_select_related = ("repo", "user", "group")
    search_fields = ("repo__name", "user__identifier_key", "group__name")

    def delete_model(self, request: HttpRequest, obj: RepoRight) -> None:
        change_rights(obj, actor(request), allowed=False)


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
