"""blueprints/v1: reads a blueprint's YAML and brings the database to what it says, all of it or
nothing."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import yaml
from authentik.core.models import OLD, Group, Role, User
from django.core.exceptions import FieldError, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model
from objects import MODELS, IdentificationStage, PolicyBinding, PolicyBindingModel, Row, Store

STATES = {"present", "created", "must_created", "absent"}
PARENT = "parent" if OLD else "parents"
# what the API takes of the models that are Django's here
ACCOUNTS: dict[str, tuple[type[Model], set[str]]] = {
    "authentik_core.group": (
        Group,
        {"name", "is_superuser", "attributes", "roles", "users", PARENT},
    ),
    "authentik_core.user": (
        User,
        {"username", "name", "email", "path", "type", "is_active", "attributes", "groups"},
    ),
    "authentik_rbac.role": (Role, {"name", "permissions"}),
}
RELATIONS: dict[str, type[Model]] = {
    "users": User,
    "roles": Role,
    "parents": Group,
    "groups": Group,
}


class BlueprintError(Exception):
    """The blueprint cannot be applied; nothing of it has been."""


@dataclass(frozen=True)
class Tag:
    """A node such as `!KeyOf flow`: it has a value only once the entries before it are applied."""

    name: str
    content: Any


class Loader(yaml.CSafeLoader):
    """YAML with authentik's tags."""


def construct(loader: Loader, suffix: str, node: yaml.Node) -> Tag:
    if isinstance(node, yaml.SequenceNode):
        return Tag(suffix, loader.construct_sequence(node, deep=True))
    if isinstance(node, yaml.ScalarNode):
        return Tag(suffix, loader.construct_scalar(node))
    raise BlueprintError(f"!{suffix} takes a value or a list")


Loader.add_multi_constructor("!", construct)


@dataclass
class Entry:
    """One entry. `instance` is the row that it has made or found, for !KeyOf."""

    model: str
    id: str | None = None
    state: str = "present"
    identifiers: dict[str, object] = field(default_factory=dict)
    attrs: dict[str, object] = field(default_factory=dict)
    conditions: list[object] = field(default_factory=list)
    instance: Row | Model | None = None


@dataclass
class Applied:
    """How many rows an import has made, changed and removed."""

    created: int = 0
    changed: int = 0
    removed: int = 0


class Importer:
    """Applies one blueprint to a store, and groups, users and roles to the user database."""

    def __init__(self, store: Store, text: str, context: dict[str, object] | None = None) -> None:
        try:
            document = yaml.load(text, Loader)  # noqa: S506  a safe one
        except yaml.YAMLError as exc:
            raise BlueprintError(f"not YAML: {exc}") from exc
        if not isinstance(document, dict) or document.get("version") != 1:
            raise BlueprintError("version: 1 is missing")
        self.store = store
        self.context = {**document.get("context", {}), **(context or {})}
        self.entries = [self._entry(each) for each in document.get("entries", [])]
        self.applied = Applied()
        self.tags: dict[str, Callable[[Any, Entry], object]] = {
            "KeyOf": self._key_of,
            "Find": self._find,
            "FindObject": self._find_object,
            "AtIndex": self._at_index,
            "Context": lambda content, _: self._default(content, self.context.get),
            "Env": lambda content, _: self._default(
                content, lambda name: os.environ.get(name) or None
            ),
            "File": lambda content, _: self._default(content, read),
            "Format": lambda content, entry: (
                content[0] % tuple(self.resolve(each, entry) for each in content[1:])
            ),
            "Condition": self._condition,
            "If": self._if,
        }

    def _entry(self, given: dict[str, Any]) -> Entry:
        unknown = set(given) - {
            "model",
            "id",
            "state",
            "identifiers",
            "attrs",
            "conditions",
            "permissions",
        }
        if unknown or "model" not in given:
            raise BlueprintError(
                f"entry {given}: " + (f"unknown {sorted(unknown)}" if unknown else "no model")
            )
        given.pop("permissions", None)
        return Entry(**{key: value for key, value in given.items() if value is not None})

    def apply(self) -> Applied:
        """Raises BlueprintError, and leaves everything as it was. Importing the same text again
        changes nothing."""
        before = deepcopy(self.store.rows)
        try:
            with transaction.atomic():
                for entry in self.entries:
                    try:
                        self._apply(entry)
                    except (
                        BlueprintError,
                        FieldError,
                        AttributeError,
                        LookupError,
                        TypeError,
                        ValueError,
                    ) as exc:
                        raise BlueprintError(
                            f"{entry.model} {entry.id or entry.identifiers}: {exc}"
                        ) from exc
                    except (IntegrityError, ValidationError) as exc:
                        raise BlueprintError(f"{entry.model} {entry.identifiers}: {exc}") from exc
        except BaseException:
            self.store.rows = before
            raise
        return self.applied

    def resolve(self, value: object, entry: Entry) -> Any:
        """The value with its tags replaced by what they stand for."""
        if isinstance(value, Tag):
            if value.name not in self.tags:
                raise BlueprintError(f"unknown tag !{value.name}")
            return self.tags[value.name](value.content, entry)
        if isinstance(value, dict):
            return {key: self.resolve(each, entry) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolve(each, entry) for each in value]
        return value

    def _key_of(self, content: str, entry: Entry) -> object:
        """blueprints/v1/common.py: from a policybinding the pbm_uuid of a flow or stage binding,
        else the key."""
        found = next(
            (each.instance for each in self.entries if each.id == content and each.instance), None
        )
        if found is None:
            raise BlueprintError(f"!KeyOf {content}: no entry of that id has been applied")
        if (
            isinstance(found, PolicyBindingModel)
            and entry.model == "authentik_policies.policybinding"
        ):
            return found.pbm_uuid
        return found.pk

    def _find(self, content: list[Any], entry: Entry) -> object:
        """The key of the first row that fits, or None. A flow's key is not what a policybinding's
        target needs."""
        model, *conditions = self.resolve(content, entry)
        wanted: dict[str, object] = dict(conditions)
        if model in ACCOUNTS:
            rows = ACCOUNTS[model][0]._base_manager.filter(**wanted)
            return rows.values_list("pk", flat=True).first()
        kind = known(model)
        row = self._row(kind, wanted)
        return None if row is None else self.store.value(kind, row, "pk")

    def _find_object(self, content: list[Any], entry: Entry) -> dict[str, object] | None:
        """The first row that fits as the API shows it, or None; for the rows of the store only."""
        model, *conditions = self.resolve(content, entry)
        kind = known(model)
        row = self._row(kind, dict(conditions))
        if row is None:
            return None
        return {name: deepcopy(getattr(row, name)) for name in attributes(kind)}

    def _at_index(self, content: list[Any], entry: Entry) -> object:
        found, index, *default = self.resolve(content, entry)
        try:
            return found[index]
        except LookupError:
            if not default:
                raise
            return default[0]

    def _default(self, content: Any, look_up: Callable[[str], object]) -> object:
        name, default = content if isinstance(content, list) else (content, None)
        found = look_up(name)
        return default if found is None else found

    def _condition(self, content: list[Any], entry: Entry) -> bool:
        mode, *values = content
        truths = [bool(self.resolve(each, entry)) for each in values]
        answers = {"AND": all(truths), "OR": any(truths), "XOR": sum(truths) % 2 == 1}
        mode = mode.upper()
        return (
            answers[mode]
            if mode in answers
            else not answers[{"NAND": "AND", "NOR": "OR", "XNOR": "XOR"}[mode]]
        )

    def _if(self, content: list[Any], entry: Entry) -> object:
        condition, *branches = content
        chosen, other = branches or (True, False)
        return self.resolve(chosen if self.resolve(condition, entry) else other, entry)

    def _row(self, kind: type[Row], wanted: dict[str, object]) -> Row | None:
        for row in self.store.all(kind):
            if all(
                same(self.store.value(kind, row, path), value) for path, value in wanted.items()
            ):
                return row
        return None

    def _apply(self, entry: Entry) -> None:
        """blueprints/v1/importer.py: conditions come before the tags of the rest of the entry."""
        if not all(self.resolve(entry.conditions, entry)):
            return
        if entry.model == "authentik_blueprints.metaapplyblueprint":
            if self.resolve(entry.attrs, entry).get("required", True):
                raise BlueprintError(
                    "applying another blueprint is not part of the double: required: false"
                )
            return
        state = self.resolve(entry.state, entry)
        if state not in STATES:
            raise BlueprintError(f"unknown state {state}")
        identifiers = self.resolve(entry.identifiers, entry)
        if not identifiers:
            raise BlueprintError("no identifiers")
        instance: Row | Model | None
        if entry.model in ACCOUNTS:
            instance = ACCOUNTS[entry.model][0]._base_manager.filter(**identifiers).first()
        else:
            kind = known(entry.model)
            refuse_unknown(set(identifiers) - {"pk"}, set(attributes(kind)))
            instance = self._row(kind, identifiers)
        if state == "absent":
            self._remove(instance)
            return
        if instance is not None and state == "must_created":
            raise BlueprintError("must_created, and it exists")
        entry.instance = instance
        if instance is not None and state == "created":
            return
        values = {**self.resolve(entry.attrs, entry), **identifiers}
        if entry.model in ACCOUNTS:
            present = instance if isinstance(instance, Model) else None
            entry.instance = self._save_account(*ACCOUNTS[entry.model], present, values)
        else:
            entry.instance = self._save_row(
                kind, instance if isinstance(instance, Row) else None, values
            )

    def _save_account(
        self, kind: type[Model], known: set[str], row: Model | None, values: dict[str, Any]
    ) -> Model:
        refuse_unknown(set(values), known)
        new = row is None
        row = row or kind()
        related = {name: RELATIONS[name] for name in values if name in RELATIONS}
        plain = {name: value for name, value in values.items() if name not in related}
        if "parent" in plain:
            plain["parent_id"] = plain.pop("parent")
        before = {name: getattr(row, name) for name in plain}
        for name, value in plain.items():
            setattr(row, name, value)
        if isinstance(row, User) and not row.password:
            row.set_unusable_password()  # core/api/users.py
        row.save(force_insert=new)
        changed = any(not same(before[name], plain[name]) for name in before)
        for name, to in related.items():
            wanted = set(to._base_manager.filter(pk__in=values[name]).values_list("pk", flat=True))
            # 2025.10: a user's `groups` in the API are the relation ak_groups
            relation = getattr(row, "ak_groups" if OLD and name == "groups" else name)
            changed |= wanted != set(relation.values_list("pk", flat=True))
            relation.set(wanted)
        self.applied.created += new
        self.applied.changed += changed and not new
        return row

    def _save_row(self, kind: type[Row], row: Row | None, values: dict[str, Any]) -> Row:
        """A new row needs every required attribute; of an existing one only what is given
        changes."""
        known_fields = attributes(kind)
        refuse_unknown(set(values) - {"pk"}, set(known_fields))
        hints = get_type_hints(kind)
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name != "pk":
                checked[name] = self._reference(known_fields[name], fit(name, value, hints[name]))
        if row is None:
            required = {
                n
                for n, f in known_fields.items()
                if f.default is MISSING and f.default_factory is MISSING
            }
            if required - set(checked):
                raise BlueprintError(f"required: {', '.join(sorted(required - set(checked)))}")
            row = kind(**checked)
            self.store.rows.append(row)
            self.applied.created += 1
        else:
            self.applied.changed += any(
                getattr(row, name) != value for name, value in checked.items()
            )
            for name, value in checked.items():
                setattr(row, name, value)
        if (
            isinstance(row, PolicyBinding)
            and sum(x is not None for x in (row.policy, row.group, row.user)) != 1
        ):
            raise BlueprintError("exactly one of policy, group and user must be set")
        if isinstance(row, IdentificationStage) and not (
            checked.get("user_fields") or checked.get("sources")
        ):
            # stages/identification/api.py looks at what is given only, in an update too
            raise BlueprintError("no user fields are selected: at least one source must be")
        for names in kind.table().UNIQUE:
            values_of = [
                [getattr(each, name) for name in names] for each in self.store.all(kind.table())
            ]
            if values_of.count([getattr(row, name) for name in names]) > 1:
                raise BlueprintError(f"the fields {', '.join(names)} must make a unique set")
        return row

    def _reference(self, known_field: "Field[Any]", value: Any) -> Any:
        """The key, if there is such a row. A policybinding's target may be given by either key; it
        keeps pbm_uuid."""
        to = known_field.metadata.get("to")
        for pk in value if isinstance(value, list) else [value]:
            if to and pk is not None and self.store.get(to, pk) is None:
                row = next(
                    (
                        each
                        for each in self.store.all(to)
                        if to is PolicyBindingModel and each.pk == pk
                    ),
                    None,
                )
                if row is None:
                    raise BlueprintError(f"{known_field.name}: no {to.__name__} has the key {pk}")
                return self.store.value(to, row, "pk")
        return value

    def _remove(self, instance: Row | Model | None) -> None:
        """With what refers to it, as the foreign keys cascade; keys in lists and optional ones are
        dropped."""
        if isinstance(instance, Model):
            instance.delete()
        elif instance is not None:
            if not any(each is instance for each in self.store.rows):
                return
            self.store.rows = [each for each in self.store.rows if each is not instance]
            keys = (
                {instance.pk, instance.pbm_uuid}
                if isinstance(instance, PolicyBindingModel)
                else {instance.pk}
            )
            for row in list(self.store.rows):
                for each in fields(row):
                    value = getattr(row, each.name)
                    if isinstance(value, list):
                        setattr(row, each.name, [pk for pk in value if pk not in keys])
                    elif each.metadata.get("to") and value in keys:
                        if each.default is None and not isinstance(row, PolicyBinding):
                            setattr(row, each.name, None)
                        else:
                            self._remove(row)
        self.applied.removed += instance is not None


def read(path: str) -> str | None:
    """!File: the text, stripped; None where the file is missing, which makes most attributes
    invalid."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def known(model: str) -> type[Row]:
    if model not in MODELS:
        raise BlueprintError(f"unknown model {model}")
    return MODELS[model]


def attributes(kind: type[Row]) -> "dict[str, Field[Any]]":
    return {each.name: each for each in fields(kind) if each.name not in {"pk", "pbm_uuid"}}


def refuse_unknown(given: set[str], taken: set[str]) -> None:
    """authentik's API would pass over an unknown attribute; here it is an error, so that a slip is
    found."""
    if given - taken:
        raise BlueprintError(f"unknown attribute {', '.join(sorted(given - taken))}")


def same(stored: object, value: object) -> bool:
    """Whether a lookup for the value finds what is stored; keys are found by their text too."""
    return str(stored) == str(value) if isinstance(stored, UUID) else stored == value


def fit(name: str, value: Any, hint: Any) -> Any:
    """The value as the attribute's type takes it. Raises BlueprintError where it does not."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return None if value is None else fit(name, value, options[0])
    if origin is list and isinstance(value, list):
        return [fit(name, each, options[0]) for each in value]
    if origin is Literal and value in options:
        return value
    if origin is dict and isinstance(value, dict):
        return value
    if hint is UUID and isinstance(value, UUID | str):
        return UUID(str(value))
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise BlueprintError(f"{name}: {value!r} does not fit")
