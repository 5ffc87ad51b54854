from django.apps import AppConfig


class OidcConfig(AppConfig):
    name = "authserver.oidc"
    verbose_name = "Applications"
