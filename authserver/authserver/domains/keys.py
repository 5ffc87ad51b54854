"""Which key signs for a domain."""

from django.core.exceptions import ValidationError
from django.db import transaction

from authserver import locks, signing
from authserver.accounts.models import Domain
from authserver.audit.record import record
from authserver.domains.models import DomainKey


def find_key(domain: Domain, kind: str) -> DomainKey | None:
    return DomainKey.objects.filter(domain=domain, kind=kind).first()


@transaction.atomic
def make_key(domain: Domain, kind: str, by: str, *, overwrite: bool = False) -> DomainKey:
    """A new key for `domain`; raises ValidationError where it has one, unless `overwrite`."""
    locks.hold(f"key of domain {domain.pk}")
    if there := find_key(domain, kind):
        if not overwrite:
            raise ValidationError(f"{domain} has a {kind} key already: say --overwrite.")
        there.delete()
    private_key = signing.make_private_key()
    record("domain.key.created", actor=by, subject=domain, key=kind)
    return DomainKey.objects.create(
        domain=domain,
        kind=kind,
        private_key=private_key,
        certificate=signing.make_certificate(private_key, domain.name),
    )


def remove_key(domain: Domain, kind: str, by: str) -> None:
    """Raises ValidationError where there is none."""
    if not DomainKey.objects.filter(domain=domain, kind=kind).delete()[0]:
        raise ValidationError(f"{domain} has no {kind} key.")
    record("domain.key.removed", actor=by, subject=domain, key=kind)


def dkim_record(key: DomainKey) -> str:
    """What to put into the DNS zone (RFC 6376, 3.6.2): strings of at most 255 characters."""
    body = "".join(signing.public_pem(key.private_key).strip().split("\n")[1:-1])
    text = f"v=DKIM1; k=rsa; p={body}"
    strings = " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))
    return f"{key.domain.dkim_selector}._domainkey.{key.domain.name}. IN TXT ( {strings} )"


def names_upwards(name: str) -> list[str]:
    """A domain's name and its parents', the nearest first."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def signing_key(name: str) -> DomainKey | None:
    """The JWT key for `name`: its own, or that of the nearest parent that signs for subdomains.

    Domains without a key are passed over.
    """
    name = name.strip().rstrip(".").lower()
    names = names_upwards(name)
    if len(names) > 127:  # RFC 1035, 2.3.4
        return None
    keys = DomainKey.objects.filter(kind=DomainKey.JWT, domain__name__in=names)
    by_name = {key.domain.name: key for key in keys.select_related("domain")}
    for candidate in names:
        key = by_name.get(candidate)
        if key and (candidate == name or key.domain.jwt_sign_subdomains):
            return key
    return None
