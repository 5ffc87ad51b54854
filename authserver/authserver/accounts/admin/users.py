"""People and their service users."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseModelFormSet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from authserver.accounts import addresses, groups, invitations, service_users, throttle, users
from authserver.accounts.models import Domain, EmailAlias, Group, Permission, ServiceUser, User
from authserver.accounts.names import claim
from authserver.accounts.passwords import check_password_form
from authserver.admin import Inline, Model, actor, become, others, shown_once
from authserver.names import name_key


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
    """An account. What may be is asked of the rules before anything is saved."""

    class Meta:
        model = User
        fields = ("identifier", "fullname", "source", "is_staff", "groups", "permissions")

    def clean_identifier(self) -> str:
        identifier: str = self.cleaned_data["identifier"]
        claim(identifier, None if self.instance._state.adding else self.instance)
        return identifier


class NewUserForm(UserForm):
    """A new account, with an address, and a password or none."""

    mailprefix = forms.CharField(label="E-mail address: local part", required=False)
    domain = forms.ModelChoiceField(
        Domain.objects.all(), label="E-mail address: domain", required=False
    )
    password = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=(
            "Leave it empty to get a link by which the person sets it. "
            "For an account of the NAS it is the NAS's."
        ),
    )

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if password:
            check_password_form(password)
        return password

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("password") and given.get("source") == User.NAS:
            self.add_error("password", users.NAS_PASSWORD)
        if bool(given.get("mailprefix")) != bool(given.get("domain")):
            self.add_error("mailprefix", "An address has a local part and a domain.")
        elif given.get("domain"):
            check_address(self, given["mailprefix"], given["domain"])
        return given


def check_address(form: Any, mailprefix: str, domain: Domain) -> None:
    """Say at a form where an address is taken."""
    known = addresses.find_alias(f"{mailprefix}@{domain}")
    if known and known != form.instance:
        form.add_error("mailprefix", f"This is already an address of {known.user}.")


class ChangeUserForm(UserForm):
    class Meta:
        model = User
        fields = (*UserForm.Meta.fields, "is_active", "delivery_mailbox")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "delivery_mailbox" in self.fields:
            own = EmailAlias.objects.filter(user=self.instance).select_related("domain")
            self.fields["delivery_mailbox"].queryset = own  # type: ignore[attr-defined]


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = EmailAlias
        fields = ("mailprefix", "domain", "blacklisted")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("mailprefix") and given.get("domain"):
            check_address(self, given["mailprefix"], given["domain"])
        return given


class Aliases(Inline):
    model = EmailAlias
    form = AliasForm
    verbose_name_plural = "e-mail addresses"


class ServiceUsers(Inline):
    """Shown with their last use, to be ended. They are made by the user, or on their own page."""

    model = ServiceUser
    fields = readonly_fields = ("username", "description", "created_at", "last_used")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(Model):
    list_display = ("identifier", "fullname", "source", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "source", "groups")
    search_fields = ("identifier_key", "fullname", "aliases__address_key")
    ordering = ("identifier_key",)
    readonly_fields = ("contact_email", "last_login", "created_at")
    inlines = (Aliases, ServiceUsers)
    tools = (
        ("sign_out", "Sign out everywhere"),
        ("invite", "Link to set the password"),
        ("unlock", "Forget failed logins"),
    )
    add_fieldsets = (
        (None, {"fields": ("identifier", "fullname", "source", "password")}),
        ("E-mail address", {"fields": (("mailprefix", "domain"),)}),
        ("Rights", {"fields": ("groups", "permissions", "is_staff")}),
    )
    change_fieldsets = (
        (None, {"fields": ("identifier", "fullname", "source", "is_active", "is_staff")}),
        ("E-mail", {"fields": ("delivery_mailbox", "contact_email")}),
        ("Rights", {"fields": ("groups", "permissions")}),
        ("Times", {"fields": ("last_login", "created_at")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.change_fieldsets if obj else self.add_fieldsets

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = ChangeUserForm if obj else NewUserForm
        return super().get_form(request, obj, change, **kwargs)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[User]", search_term: str
    ) -> "tuple[QuerySet[User], bool]":
        return super().get_search_results(request, queryset, name_key(search_term))

    def tools_of(self, obj: User) -> list[tuple[str, str]]:
        local = obj.source == User.LOCAL and obj.is_active
        return [tool for tool in self.tools if local or tool[0] != "invite"]

    # --- Saving, by the rules ---------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        given, by = form.cleaned_data, actor(request)
        if not change:
            made = users.create_user(
                given["identifier"],
                given["fullname"],
                by,
                password=given["password"] or None,
                staff=given["is_staff"],
                source=given["source"],
            )
            become(obj, made)
            if given["domain"]:
                alias = addresses.create_alias(given["mailprefix"], given["domain"], obj, by)
                addresses.set_delivery_mailbox(obj, alias, by)
            return
        was = User.objects.get(pk=obj.pk)
        users.edit_user(
            was,
            by,
            identifier=given["identifier"],
            fullname=given["fullname"],
            staff=given["is_staff"],
            source=given["source"],
        )
        users.set_active(was, given["is_active"], by)
        if given["delivery_mailbox"]:
            addresses.set_delivery_mailbox(was, given["delivery_mailbox"], by)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Replaces saving what a user belongs to and holds: each change is of a rule."""
        user, by = form.instance, actor(request)
        wanted_groups, wanted = form.cleaned_data["groups"], form.cleaned_data["permissions"]
        groups.join(user, wanted_groups, by)
        groups.leave(user, others(Group.objects.filter(users=user), wanted_groups), by)
        groups.grant(user, wanted, by)
        groups.revoke(user, others(Permission.objects.filter(users=user), wanted), by)
        for formset in formsets:
            self.save_formset(request, form, formset, change)

    def save_formset(
        self, request: HttpRequest, form: Any, formset: "BaseModelFormSet[Any, Any]", change: bool
    ) -> None:
        by = actor(request)
        formset.save(commit=False)
        for gone in formset.deleted_objects:
            if isinstance(gone, ServiceUser):
                service_users.remove_service_user(gone, by)
            else:
                addresses.remove_alias(gone, by)
        for new in formset.new_objects:
            addresses.create_alias(
                new.mailprefix, new.domain, form.instance, by, blacklisted=new.blacklisted
            )
        for edited, _ in formset.changed_objects:
            addresses.edit_alias(
                EmailAlias.objects.get(pk=edited.pk),
                by,
                mailprefix=edited.mailprefix,
                domain=edited.domain,
                blacklisted=edited.blacklisted,
            )

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        users.remove_user(obj, actor(request))

    def response_add(
        self, request: HttpRequest, obj: User, post_url_continue: str | None = None
    ) -> HttpResponse:
        if obj.source == User.LOCAL and not obj.has_usable_password():
            return self.invite(request, obj)
        return super().response_add(request, obj, post_url_continue)

    # --- Tools ------------------------------------------------------------------------------------

    def sign_out(self, request: HttpRequest, obj: User) -> None:
        users.sign_out(obj, actor(request))
        self.message_user(request, f"{obj} is signed out everywhere.")

    def unlock(self, request: HttpRequest, obj: User) -> None:
        count = throttle.unlock(throttle.name_digest(obj.identifier_key), actor(request), obj)
        self.message_user(request, f"{count} failed logins of {obj} are forgotten.")

    def invite(self, request: HttpRequest, obj: User) -> HttpResponse:
        return shown_once(
            self.admin_site,
            request,
            f"Link for {obj}",
            [
                (
                    "Open within 24 hours, to set the password",
                    invitations.invite(obj, actor(request)),
                )
            ],
            text="Give this link to the person. It works once, and is not shown again.",
            next=self.url_of("change", obj),
        )


class NewServiceUserForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = ServiceUser
        fields = ("user", "username", "description")

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        claim(username, None if self.instance._state.adding else self.instance)
        return username


@admin.register(ServiceUser)
class ServiceUserAdmin(Model):
    form = NewServiceUserForm
    list_display = ("username", "user", "description", "created_at", "last_used")
    list_select_related = ("user",)
    search_fields = ("username_key", "description", "user__identifier_key")
    password = ""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", "created_at", "last_used") if obj else ()

    def save_model(self, request: HttpRequest, obj: ServiceUser, form: Any, change: bool) -> None:
        given, by = form.cleaned_data, actor(request)
        if change:
            was = ServiceUser.objects.get(pk=obj.pk)
            service_users.edit_service_user(
                was, by, username=given["username"], description=given["description"]
            )
            return
        made, form.password = service_users.create_service_user(
            given["user"], given["username"], given["description"], by
        )
        become(obj, made)
        request.made_password = form.password  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ServiceUser, post_url_continue: str | None = None
    ) -> HttpResponse:
        return shown_once(
            self.admin_site,
            request,
            f"Password of {obj}",
            [("Name", obj.username), ("Password", request.made_password)],  # type: ignore[attr-defined]
            text="Type or copy both into the program now: the password is kept nowhere.",
            next=reverse("admin:accounts_serviceuser_changelist"),
        )

    def delete_model(self, request: HttpRequest, obj: ServiceUser) -> None:
        service_users.remove_service_user(obj, actor(request))
