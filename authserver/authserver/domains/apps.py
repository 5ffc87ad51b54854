from django.apps import AppConfig


class DomainsConfig(AppConfig):
    name = "authserver.domains"
    verbose_name = "Domains"
