"""Accounts: users, their groups, permissions, addresses and service users."""

import re
import unicodedata
import uuid
from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from authserver.names import name_key

# RFC 6749, 3.3: a scope's characters; without the comma, which separates them in forms and headers
SCOPE = re.compile(r"[!#-+\--\[\]-~]+")
STANDARD_SCOPES = ("openid", "profile", "email", "groups", "offline_access")
LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*")


def check_identifier(text: str) -> None:
    """ValidationError where `text` cannot be the name of a user or service user."""
    if not 1 <= len(text) <= 150:
        raise ValidationError("A name has 1 to 150 characters.")
    key = name_key(text)
    for character in text + key:  # NFKC makes '@' of its wide form, and others
        if character in "@/:," or character.isspace() or unicodedata.category(character) == "Cc":
            raise ValidationError("A name has no blanks, control characters, '@', '/', ':' or ','.")
        if unicodedata.category(character) == "Cs":
            raise ValidationError("A name has no unpaired surrogates.")
    if not 1 <= len(key) <= 600:  # a few characters stand for up to 18 others
        raise ValidationError("A name has at least one visible character, and none of many others.")


def check_permission_name(text: str) -> None:
    if not SCOPE.fullmatch(text) or len(text) > 200:
        raise ValidationError(
            "A permission's name has 1 to 200 visible ASCII characters, "
            "without quotes, backslashes and commas."
        )
    if text in STANDARD_SCOPES:
        raise ValidationError(f"{text!r} is a standard scope, it cannot be a permission.")


def check_domain(text: str) -> None:
    if not DOMAIN.fullmatch(text):
        raise ValidationError("A domain is a name such as example.org, in lower case.")


def check_selector(text: str) -> None:
    if not re.fullmatch(rf"{LABEL}(\.{LABEL})*", text):
        raise ValidationError("A DKIM selector is a name such as mail2026, in lower case.")


def check_redirect(text: str) -> None:
    """A domain, or an address."""
    mailprefix, at, domain = text.rpartition("@")
    if at:
        check_mailprefix(mailprefix)
    check_domain(domain)


def check_mailprefix(text: str) -> None:
    """The local part of an address: a dot-atom (RFC 5322, 3.2.3; UTF-8 by RFC 6531)."""
    atom = r"[^\s\x00-\x20\x7f-\x9f()<>\[\]:;@\\,.\"]+"
    if len(text.encode()) > 64 or not re.fullmatch(rf"{atom}(\.{atom})*", text):
        raise ValidationError("This is not the local part of an e-mail address.")


class Permission(models.Model):
    """What applications ask for as a scope, and some require: `permission_name` is the scope."""

    name = models.CharField("label", max_length=200)
    permission_name = models.CharField(
        max_length=200, unique=True, validators=[check_permission_name]
    )

    class Meta:
        ordering = ("permission_name",)

    def __str__(self) -> str:
        return self.permission_name


class Group(models.Model):
    name = models.CharField(max_length=150, unique=True)
    permissions = models.ManyToManyField(Permission, blank=True, related_name="groups")

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Domain(models.Model):
    """A domain of ours: of addresses, and of what is signed in its name."""

    name = models.CharField(max_length=253, unique=True, validators=[check_domain])
    jwt_sign_subdomains = models.BooleanField(
        "sign for subdomains", default=False, help_text="Its JWT key signs for them as well."
    )
    dkim_selector = models.CharField(
        max_length=63, default="default", validators=[check_selector], help_text="RFC 6376, 3.1."
    )
    redirect_to = models.CharField(
        "redirect all mail to",
        max_length=254,
        blank=True,
        validators=[check_redirect],
        help_text="A domain, for the same local part there, or an address.",
    )

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(identifier_key=name_key(username or ""))


class User(AbstractBaseUser):
    """A person's account. An administrator (`is_staff`) may do everything."""

    LOCAL, NAS = "local", "nas"
    SOURCES = ((LOCAL, "this server"), (NAS, "the NAS"))

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    identifier = models.CharField(max_length=150, validators=[check_identifier])
    identifier_key = models.CharField(max_length=600, unique=True, editable=False)
    fullname = models.CharField("full name", max_length=200, blank=True)
    contact_email = models.CharField(
        max_length=254,
        blank=True,
        help_text="As the NAS has it: no login, no mailbox, not verified.",
    )
    delivery_mailbox = models.ForeignKey(
        "EmailAlias", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    groups = models.ManyToManyField(Group, blank=True, related_name="users")
    permissions = models.ManyToManyField(Permission, blank=True, related_name="users")
    is_active = models.BooleanField("active", default=True)
    is_staff = models.BooleanField("administrator", default=False)
    source = models.CharField(max_length=8, choices=SOURCES, default=LOCAL)
    nas_uid = models.BigIntegerField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "identifier_key"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("identifier_key",)

    def __str__(self) -> str:
        return self.identifier

    def save(self, *args: object, **kwargs: object) -> None:
        self.identifier_key = name_key(self.identifier)
        fields = kwargs.get("update_fields")
        if fields is not None:
            kwargs["update_fields"] = {*fields, "identifier_key", "updated_at"}  # type: ignore[misc]
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    # what Django's admin asks
    def has_perm(self, _permission: str, _obj: object = None) -> bool:
        return self.is_active and self.is_staff

    def has_perms(self, _permissions: object, _obj: object = None) -> bool:
        return self.is_active and self.is_staff

    def has_module_perms(self, _app_label: str) -> bool:
        return self.is_active and self.is_staff

    def get_short_name(self) -> str:
        return self.fullname.split(" ")[0] or self.identifier


class EmailAlias(models.Model):
    """An address of a user. One may be his delivery mailbox."""

    mailprefix = models.CharField("local part", max_length=64, validators=[check_mailprefix])
    domain = models.ForeignKey(Domain, on_delete=models.PROTECT, related_name="aliases")
    address_key = models.CharField(max_length=900, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="aliases")
    blacklisted = models.BooleanField(default=False, help_text="Mail to it is refused.")

    class Meta:
        ordering = ("address_key",)
        verbose_name_plural = "email aliases"

    def __str__(self) -> str:
        return self.alias

    @property
    def alias(self) -> str:
        return f"{self.mailprefix}@{self.domain.name}"

    def save(self, *args: object, **kwargs: object) -> None:
        self.address_key = name_key(self.alias)
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class ServiceUser(models.Model):
    """A name and a random password of a user's, for a program that cannot do more.

    `digest` is the SHA-256 of the password, `crypt` a bcrypt hash of it for mail servers; its 160
    random bits need no slow one.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="service_users")
    username = models.CharField(max_length=150, validators=[check_identifier])
    username_key = models.CharField(max_length=600, unique=True, editable=False)
    description = models.CharField(max_length=200, blank=True)
    digest = models.CharField(max_length=64, editable=False)
    crypt = models.CharField(max_length=60, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used = models.DateTimeField(null=True, editable=False, help_text="To the hour.")

    class Meta:
        ordering = ("username_key",)

    def __str__(self) -> str:
        return self.username

    def save(self, *args: object, **kwargs: object) -> None:
        self.username_key = name_key(self.username)
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class Session(models.Model):
    """A browser that is signed in, or on its way. `digest` is the SHA-256 of its cookie."""

    sid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="sessions")
    data = models.TextField(blank=True, editable=False)
    client = models.CharField(max_length=45, blank=True, help_text="Its address.")
    network = models.CharField(max_length=49, blank=True, editable=False)
    user_agent = models.CharField(max_length=300, blank=True)
    authenticated_at = models.DateTimeField(null=True)
    amr = models.CharField(max_length=60, blank=True, help_text="How (RFC 8176), with blanks.")
    created_at = models.DateTimeField(default=timezone.now)
    last_used = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.user or 'nobody'} from {self.client}"


class NasStanding(models.Model):
    """What the NAS last said of an account, and who is asking it now. Times in UTC."""

    user = models.OneToOneField(User, primary_key=True, on_delete=models.CASCADE)
    good = models.BooleanField(default=False)
    answered_at = models.DateTimeField(null=True)
    asking_until = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.user}: {'good' if self.good else 'not good'}"


class Refusal(models.Model):
    """A refused login, or one that is being judged (`pending_until`), for the throttle.

    `name` is the SHA-256 of the name's key: people type passwords there.
    """

    name = models.CharField(max_length=64)
    network = models.CharField(max_length=49, help_text="The client's address; IPv6: its /64.")
    at = models.DateTimeField(default=timezone.now)
    pending_until = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["name", "network", "at"], name="refusal_name_network"),
            models.Index(fields=["at"], name="refusal_at"),
        ]

    def __str__(self) -> str:
        return f"{self.network} at {self.at}"


class KnownDevice(models.Model):
    """What a user has signed in with: `digest` is the SHA-256 of a browser's cookie, or of its
    network and name."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_devices")
    digest = models.CharField(max_length=64)
    last_login = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="known_device")]

    def __str__(self) -> str:
        return f"a device of {self.user}"


class KnownClient(models.Model):
    """From where a user has logged in, and when last."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_clients")
    network = models.CharField(max_length=49)
    last_login = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "network"], name="known_client")]

    def __str__(self) -> str:
        return f"{self.user} from {self.network}"


class SetupToken(models.Model):
    """The link of the first start, while there is no administrator."""

    token = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return "the link of the first start"
