"""Groups, permissions and addresses."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group as DjangoGroup
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from authserver.accounts import addresses, groups
from authserver.accounts.models import EmailAlias, Group, Permission
from authserver.admin import Model, actor, become, others

admin.site.unregister(DjangoGroup)  # this project has groups of its own


@admin.register(Group)
class GroupAdmin(Model):
    fields = ("name", "permissions", "members")
    readonly_fields = ("members",)
    search_fields = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "members") if obj else ("members",)

    @admin.display(description="Members")
    def members(self, obj: Group) -> str:
        if obj._state.adding:
            return "none yet; a person's page puts him in"
        query = urlencode({"groups__id__exact": obj.pk})
        url = f"{reverse('admin:accounts_user_changelist')}?{query}"
        return format_html('<a href="{}">{}</a>', url, obj.users.count())

    def save_model(self, request: HttpRequest, obj: Group, form: Any, change: bool) -> None:
        if not change:
            become(obj, groups.create_group(form.cleaned_data["name"], actor(request)))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Replaces saving what a group holds: each change is of a rule."""
        group, wanted, by = form.instance, form.cleaned_data["permissions"], actor(request)
        groups.grant(group, wanted, by)
        groups.revoke(group, others(Permission.objects.filter(groups=group), wanted), by)

    def delete_model(self, request: HttpRequest, obj: Group) -> None:
        groups.remove_group(obj, actor(request))


@admin.register(Permission)
class PermissionAdmin(Model):
    list_display = ("permission_name", "name")
    search_fields = ("permission_name", "name")
    fields = ("permission_name", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("permission_name",) if obj else ()  # applications ask for it by this

    def save_model(self, request: HttpRequest, obj: Permission, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        name, label = form.cleaned_data["permission_name"], form.cleaned_data["name"]
        become(obj, groups.create_permission(name, label, actor(request)))

    def delete_model(self, request: HttpRequest, obj: Permission) -> None:
        groups.remove_permission(obj, actor(request))


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = EmailAlias
        fields = ("mailprefix", "domain", "user", "blacklisted")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        known = addresses.find_alias(f"{given.get('mailprefix')}@{given.get('domain')}")
        if known and known != self.instance:
            self.add_error("mailprefix", f"This is already an address of {known.user}.")
        return given


@admin.register(EmailAlias)
class EmailAliasAdmin(Model):
    form = AliasForm
    list_display = ("alias", "user", "blacklisted")
    list_select_related = ("domain", "user")
    list_filter = ("blacklisted", "domain")
    search_fields = ("address_key", "user__identifier_key")

    def save_model(self, request: HttpRequest, obj: EmailAlias, form: Any, change: bool) -> None:
        given, by = form.cleaned_data, actor(request)
        if change:
            addresses.edit_alias(EmailAlias.objects.get(pk=obj.pk), by, **given)
            return
        made = addresses.create_alias(
            given["mailprefix"], given["domain"], given["user"], by, given["blacklisted"]
        )
        become(obj, made)

    def delete_model(self, request: HttpRequest, obj: EmailAlias) -> None:
        addresses.remove_alias(obj, actor(request))
