from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "authserver.portal"
    verbose_name = "Self-service pages"
