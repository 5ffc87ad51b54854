from typing import Any

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "authserver.registry"
    verbose_name = "Docker registries"

    def ready(self) -> None:
        from authserver.accounts.signals import ended  # noqa: PLC0415  (models are there by now)

        ended.connect(end_logins)


def end_logins(user: Any, **_: Any) -> None:
    """What `docker login` keeps ends with the rest of an account's."""
    user.registry_tokens.all().delete()
