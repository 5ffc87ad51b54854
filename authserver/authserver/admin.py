"""The admin: Django's, with the sign-in, the rules and the audit log of this project.

Each app's `admin.py` changes things by the same rules as the commands; those write the audit log.
What is secret (tokens, keys, digests) is on no page of it.
"""

from collections.abc import Iterable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import BaseModelAdmin as DjangoBase
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import ValidationError
from django.db.models import Model as DjangoModel
from django.db.models import ProtectedError, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST

from authserver.accounts.login import find_account
from authserver.accounts.models import User
from authserver.audit.record import record

if TYPE_CHECKING:
    BaseModelAdmin = DjangoBase[Any]
    ModelAdmin = admin.ModelAdmin[Any]
    StackedInline = admin.StackedInline[Any, Any]
else:
    BaseModelAdmin, ModelAdmin, StackedInline = DjangoBase, admin.ModelAdmin, admin.StackedInline

M = TypeVar("M", bound=DjangoModel)


def actor(request: HttpRequest) -> str:
    """Who does it, for the audit log."""
    return str(request.user)


def others(queryset: "QuerySet[M]", chosen: "QuerySet[M]") -> "QuerySet[M]":
    """Those of a queryset that were not chosen at a form."""
    return queryset.exclude(pk__in=[each.pk for each in chosen])


def become(obj: DjangoModel, made: DjangoModel) -> None:
    """Let the instance of a form, with which Django goes on, be the row that a rule has made."""
    obj.__dict__.update(made.__dict__)


class Site(admin.AdminSite):
    """Django's site. Signing in and out are those of all pages (`accounts/urls.py`)."""

    site_title = site_header = "Administration"
    index_title = "Administration"
    enable_nav_sidebar = False

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Who is signed in and no administrator is told so; Django would ask him to sign in."""
        inner = super().admin_view(view, cacheable)

        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.user.is_authenticated and not self.has_permission(request):
                return render(request, "403.html", status=403)
            answer: HttpResponse = inner(request, *args, **kwargs)
            return answer

        return update_wrapper(checked, view)

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("password")


class UserField(forms.CharField):
    """A user, typed by name or address."""

    default_error_messages: ClassVar = {"unknown": "There is no user with this name or address."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(help_text="Name or e-mail address.", **kwargs)

    def prepare_value(self, value: Any) -> Any:
        user = User.objects.filter(pk=value).first() if isinstance(value, UUID) else None
        return user.identifier if user else value

    def clean(self, value: Any) -> Any:
        typed = super().clean(value)
        if not typed:
            return None
        user = find_account(typed)
        if not isinstance(user, User):
            raise ValidationError(self.error_messages["unknown"])
        return user


class Fields(BaseModelAdmin):
    """How a form shows what one chooses from."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Beside a choice stands a link to add one, and no others."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(getattr(field, "widget", None), RelatedFieldWidgetWrapper):
            widget = field.widget  # type: ignore[union-attr]
            widget.can_change_related = widget.can_delete_related = False
            widget.can_view_related = False
        return field

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Boxes to tick: Django's two lists need scripts, and say their help in pictures only."""
        kwargs.setdefault("widget", forms.CheckboxSelectMultiple)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A user is named: of many, no list can be made."""
        if db_field.related_model is User:
            return UserField(label=db_field.verbose_name.capitalize(), required=not db_field.blank)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class Inline(Fields, StackedInline):
    """Rows of another model on a page. Stacked: a table's cells have no labels."""

    extra = 0


class Model(Fields, ModelAdmin):
    """What all admin classes share.

    `tools`: names of methods that a button of the change page calls, with what it says. Each takes
    the request and the object, and returns a response, or None to come back to the page.
    """

    tools: Sequence[tuple[str, str]] = ()
    actions = None
    list_per_page = 50
    show_full_result_count = False  # it would count all rows at each page
    change_form_template = "admin/with_tools.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = str(self.opts.verbose_name_plural)
        context = {"title": title[:1].upper() + title[1:], **(extra_context or {})}
        return super().changelist_view(request, context)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether the address of the list may ask for rows by `lookup`.

        Only by what the list shows or offers: Django lets it ask by every column of the model, and
        so a secret could be guessed letter by letter.
        """
        shown = {*self.list_display, *self.list_filter, self.date_hierarchy}
        return lookup.partition("__")[0] in shown and super().lookup_allowed(lookup, value, request)

    def get_urls(self) -> list[URLPattern]:
        run = self.admin_site.admin_view(require_POST(self.run_tool))
        name = f"{self.opts.app_label}_{self.opts.model_name}_tool"
        return [path("<path:object_id>/tool/<slug:tool>/", run, name=name), *super().get_urls()]

    def tools_of(self, obj: Any) -> Sequence[tuple[str, str]]:
        """The tools that make sense for an object."""
        return self.tools

    def run_tool(self, request: HttpRequest, object_id: str, tool: str) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if obj is None or tool not in dict(self.tools):
            raise Http404
        try:
            answer: HttpResponse | None = getattr(self, tool)(request, obj)
        except ValidationError as error:
            self.refuse(request, error)
            answer = None
        return answer or redirect(self.url_of("change", obj))

    def url_of(self, page: str, obj: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}", args=[obj.pk])

    def refuse(self, request: HttpRequest, error: ValidationError) -> None:
        self.message_user(request, " ".join(error.messages), messages.ERROR)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        obj = kwargs.get("obj")
        context["tools"] = self.tools_of(obj) if obj else ()
        context["tool_url"] = f"admin:{self.opts.app_label}_{self.opts.model_name}_tool"
        return super().render_change_form(request, context, *args, **kwargs)

    # a rule may refuse what a form let pass: said, and nothing is changed

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ValidationError as error:
            self.refuse(request, error)
            return redirect(request.get_full_path())

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().delete_view(request, *args, **kwargs)
        except ValidationError as error:
            self.refuse(request, error)
        except ProtectedError as error:
            used = ", ".join(sorted(str(other) for other in error.protected_objects)[:5])
            self.message_user(request, f"It is still used by: {used}.", messages.ERROR)
        return redirect(request.path)

    def get_deleted_objects(
        self, objs: Iterable[DjangoModel], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Replaces the list of all that hangs on them: it has digests in its links, and would
        load every token."""
        return [str(obj) for obj in objs], {}, set(), []

    # the audit log stands in for Django's own

    def log_addition(self, *args: Any) -> None: ...  # type: ignore[override]

    def log_change(self, *args: Any) -> None: ...  # type: ignore[override]

    def log_deletions(self, *args: Any) -> None: ...  # type: ignore[override]

    def history_view(self, request: HttpRequest, object_id: str, *_: Any) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        field = "subject" if isinstance(obj, User) else "q"
        log = reverse("admin:audit_event_changelist")
        return redirect(f"{log}?{urlencode({field: str(obj)})}")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        kind = f"{self.opts.model_name}.{'edited' if change else 'created'}"
        record(kind, actor=actor(request), subject=obj, changed=form.changed_data)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        record(f"{self.opts.model_name}.removed", actor=actor(request), subject=obj)
        obj.delete()


class Seen(Model):
    """What is only looked at, and perhaps ended."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Listed(Seen):
    """What is only listed: its key is a digest, so that no link may name a row."""

    list_display_links = None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_object(self, *args: Any, **kwargs: Any) -> None:
        """There is no page of one."""


def shown_once(
    site: admin.AdminSite,
    request: HttpRequest,
    title: str,
    rows: Sequence[tuple[str, str]],
    **page: Any,
) -> HttpResponse:
    """A page with what is kept nowhere: `rows` of a label and a text; `next` is the way on."""
    context = {**site.each_context(request), "title": title, "rows": rows, **page}
    return TemplateResponse(request, "admin/shown_once.html", context)
