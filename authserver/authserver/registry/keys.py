"""The keys of registries."""

import datetime

from django.db import transaction
from django.utils import timezone

from authserver import locks, signing
from authserver.queries import one
from authserver.registry.models import DockerRegistry, RegistryKey

TOKEN_SECONDS = 300
CLOCKS = 60  # seconds by which clocks may differ


def make_key(registry: DockerRegistry) -> RegistryKey:
    """A new signing key; the one before stays in the bundle until its tokens have ended.

    A registry that has not got the new bundle yet believes the new key's tokens all the same: the
    key before has signed for it.
    """
    private_key = signing.make_private_key()
    name = registry.domain.name
    certificate = signing.make_certificate(private_key, name)
    with transaction.atomic():
        locks.hold(f"registry key {registry.pk}")
        before = registry.keys.filter(ended_at=None).first()
        bridge = ""
        if before:
            bridge = signing.make_certificate(private_key, name, before.private_key)
            before.ended_at = timezone.now()
            before.save(update_fields=["ended_at"])
        clear_old(registry)
        return RegistryKey.objects.create(
            registry=registry, private_key=private_key, certificate=certificate, bridge=bridge
        )


def signing_key(client_id: str) -> RegistryKey | None:
    """The key that signs for the registry with that client id, with the registry and its domain."""
    if "\0" in client_id:  # PostgreSQL refuses to look for one
        return None
    found = RegistryKey.objects.filter(registry__client_id=client_id, ended_at=None)
    return one(found.select_related("registry__domain"))


def clear_old(registry: DockerRegistry) -> None:
    """Forget keys whose last token has ended."""
    before = timezone.now() - datetime.timedelta(seconds=TOKEN_SECONDS + CLOCKS)
    registry.keys.filter(ended_at__lt=before).delete()


def certificates(registry: DockerRegistry) -> str:
    """The bundle that the registry trusts: the signing key's certificate first, in PEM."""
    clear_old(registry)
    keys = sorted(registry.keys.all(), key=lambda key: (key.ended_at is not None, -key.pk))
    return "".join(key.certificate for key in keys)


def key_pair(client_id: str) -> tuple[str, str] | None:
    """The public key and the certificates of the registry with that client id, in PEM."""
    key = signing_key(client_id)
    if key is None:
        return None
    return signing.public_pem(key.private_key), certificates(key.registry)
