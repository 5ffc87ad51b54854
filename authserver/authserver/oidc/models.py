"""Applications, what was granted to them, and the tokens of that.

Of every secret there is a SHA-256 digest only: of tokens, codes and client secrets, whose random
bits need no slow hash.
"""

import datetime
import secrets
import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from authserver.accounts.models import Domain, Permission, Session, User
from authserver.oidc import redirects


def new_client_id() -> str:
    return secrets.token_hex(16)


def check_name(text: str) -> None:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise ValidationError("A name has visible characters, and no blanks around them.")


def check_icon(text: str) -> None:
    kinds = ("data:image/png;base64,", "data:image/svg+xml;base64,", "data:image/webp;base64,")
    if not text.startswith(kinds) or len(text) > 65_536:
        raise ValidationError("An icon is a data: URL of a PNG, SVG or WebP file below 48 kB.")


def check_link(text: str) -> None:
    if not text.startswith(("https://", "http://")) or not text.isprintable() or " " in text:
        raise ValidationError("A link begins with https:// or http://.")


class Application(models.Model):
    """A program that signs users in through this server, or asks it about tokens."""

    PUBLIC, CONFIDENTIAL = "public", "confidential"
    CLIENT_TYPES = ((CONFIDENTIAL, "confidential: keeps a secret"), (PUBLIC, "public: cannot"))

    client_id = models.CharField(max_length=64, unique=True, default=new_client_id, editable=False)
    name = models.CharField(max_length=200, unique=True, validators=[check_name])
    secret_digest = models.CharField(max_length=64, blank=True, editable=False)
    client_type = models.CharField(max_length=12, choices=CLIENT_TYPES, default=CONFIDENTIAL)
    authorization_code = models.BooleanField("grant type authorization code", default=True)
    client_credentials = models.BooleanField("grant type client credentials", default=False)
    device_code = models.BooleanField("grant type device code", default=False)
    redirect_uris = models.TextField("redirect URIs", blank=True, help_text="One a line.")
    post_logout_redirect_uris = models.TextField(
        "redirect URIs after signing out", blank=True, help_text="One a line."
    )
    skip_authorization = models.BooleanField(
        "skip consent", default=False, help_text="Do not ask users whether they agree."
    )
    skip_pkce = models.BooleanField(
        "PKCE not required", default=False, help_text="For a confidential one that cannot."
    )
    allow_http = models.BooleanField(
        "allow http", default=False, help_text="Redirect URIs with http, in a network of one's own."
    )
    resource_server = models.BooleanField(
        default=False, help_text="It may ask about the tokens of all applications."
    )
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.PROTECT)
    required_permissions = models.ManyToManyField(
        Permission, blank=True, related_name="required_by", help_text="What its users must hold."
    )
    permissions = models.ManyToManyField(
        Permission,
        blank=True,
        related_name="applications",
        help_text="What it holds itself, for client credentials.",
    )
    link = models.CharField(
        max_length=500, blank=True, validators=[check_link], help_text="Where it begins."
    )
    icon = models.TextField(blank=True, validators=[check_icon], help_text="A data: URL.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def is_public(self) -> bool:
        return self.client_type == self.PUBLIC

    @property
    def redirect_uri_list(self) -> list[str]:
        return self.redirect_uris.split()

    @property
    def post_logout_redirect_uri_list(self) -> list[str]:
        return self.post_logout_redirect_uris.split()

    def clean(self) -> None:
        """Refuse what can never be right."""
        for_confidential = {
            "skip_pkce": "A public application must use PKCE.",
            "allow_http": "Only a confidential application may use http.",
            "resource_server": "A resource server must be confidential.",
            "client_credentials": "A public application has no credentials.",
        }
        if self.is_public:
            for field, text in for_confidential.items():
                if getattr(self, field):
                    raise ValidationError({field: text})
        uses = ("authorization_code", "client_credentials", "device_code", "resource_server")
        if not any(getattr(self, field) for field in uses):
            raise ValidationError("An application has a grant type, or is a resource server.")
        for field in ("redirect_uris", "post_logout_redirect_uris"):
            uris = getattr(self, field).splitlines()
            for uri in uris:
                try:
                    redirects.check_uri(uri, public=self.is_public, allow_http=self.allow_http)
                except ValueError as error:
                    raise ValidationError({field: str(error)}) from None
            setattr(self, field, "\n".join(dict.fromkeys(uris)))


class SigningKey(models.Model):
    """A key of the issuer. The newest that may sign does.

    `private_pem` is emptied when a newer key signs; the public part stays, so that an old
    id_token is still understood as a hint.
    """

    kid = models.CharField(primary_key=True, max_length=43, help_text="RFC 7638.")
    public_jwk = models.JSONField()
    private_pem = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    signs_from = models.DateTimeField(unique=True)

    class Meta:
        ordering = ("signs_from",)

    def __str__(self) -> str:
        return self.kid


class Consent(models.Model):
    """The scopes that a user has agreed to give an application without being asked again."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="consents")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="consents")
    scope = models.TextField(help_text="With blanks between.")
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "application"], name="consent_once")]

    def __str__(self) -> str:
        return f"{self.user} to {self.application}: {self.scope}"


class Grant(models.Model):
    """What was granted to an application once, and the family of tokens that came of it.

    Its tokens count as long as it exists, and without `offline` as long as its session does:
    deleting the one row, or the session's, ends them all. So neither end of these two keys has a
    constraint in the database: whoever deletes need not wait for whoever inserts.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="grants")
    session = models.ForeignKey(
        Session,
        null=True,
        to_field="sid",
        db_constraint=False,
        on_delete=models.DO_NOTHING,
        related_name="grants",
    )
    offline = models.BooleanField(default=False, help_text="It outlives its session.")
    scope = models.TextField(help_text="With blanks between.")
    nonce = models.TextField(blank=True)
    authenticated_at = models.DateTimeField(null=True)
    amr = models.CharField(max_length=60, blank=True)
    code_digest = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    redirect_uri = models.TextField(blank=True)
    code_challenge = models.CharField(max_length=43, blank=True)
    code_used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.application} for {self.user}: {self.scope}"

    def is_alive(self, now: datetime.datetime) -> bool:
        """Whether its tokens count, as far as its session decides that."""
        if self.user_id is None or self.offline:
            return True
        return self.session is not None and self.session.expires_at > now


class Token(models.Model):
    """An access or a refresh token. A refresh token that was used is remembered."""

    ACCESS, REFRESH = "access", "refresh"
    KINDS = ((ACCESS, ACCESS), (REFRESH, REFRESH))

    digest = models.CharField(primary_key=True, max_length=64)
    kind = models.CharField(max_length=8, choices=KINDS)
    grant = models.ForeignKey(
        Grant, db_constraint=False, on_delete=models.DO_NOTHING, related_name="tokens"
    )
    scope = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.kind} token until {self.expires_at}"


class DeviceCode(models.Model):
    """A device that waits for its user (RFC 8628)."""

    PENDING, ALLOWED, DENIED, USED = "pending", "allowed", "denied", "used"
    STATES = tuple((state, state) for state in (PENDING, ALLOWED, DENIED, USED))

    digest = models.CharField(primary_key=True, max_length=64)
    user_code_digest = models.CharField(max_length=64, unique=True)
    application = models.ForeignKey(Application, on_delete=models.CASCADE)
    scope = models.TextField()
    state = models.CharField(max_length=8, choices=STATES, default=PENDING)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    sid = models.UUIDField(null=True, help_text="Of the session in which it was allowed.")
    authenticated_at = models.DateTimeField(null=True)
    amr = models.CharField(max_length=60, blank=True)
    interval = models.IntegerField(default=5)
    polled_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"a device of {self.application}, {self.state}"
