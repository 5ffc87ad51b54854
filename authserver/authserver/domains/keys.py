"""Which key signs for a domain."""

from authserver import signing
from authserver.accounts.models import Domain
from authserver.domains.models import DomainKey


def make_key(domain: Domain, kind: str) -> DomainKey:
    """A new key for `domain`, which has none of that kind."""
    private_key = signing.make_private_key()
    return DomainKey.objects.create(
        domain=domain,
        kind=kind,
        private_key=private_key,
        certificate=signing.make_certificate(private_key, domain.name),
    )


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
