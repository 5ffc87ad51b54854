from django.apps import AppConfig


class OidcConfig(AppConfig):
    name = "authserver.oidc"
    verbose_name = "Applications"

    def ready(self) -> None:
        from authserver.accounts.signals import ended  # noqa: PLC0415  (needs the models)
        from authserver.oidc.tokens import on_ended  # noqa: PLC0415

        ended.connect(on_ended, dispatch_uid="oidc.tokens")
