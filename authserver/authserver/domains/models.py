"""The keys of domains: in whose name something is signed."""

from django.db import models
from django.utils import timezone

from authserver.accounts.models import Domain


class DomainKey(models.Model):
    """A key of a domain: for the JWTs of /checkpassword/, or for DKIM.

    The certificate is stored, as one that is made anew does not match what others have pinned.
    """

    JWT, DKIM = "jwt", "dkim"
    KINDS = ((JWT, "JWT"), (DKIM, "DKIM"))

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="keys")
    kind = models.CharField(max_length=8, choices=KINDS)
    private_key = models.TextField(editable=False)
    certificate = models.TextField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["domain", "kind"], name="domain_key_kind")]

    def __str__(self) -> str:
        return f"{self.domain}: {self.get_kind_display()}"
