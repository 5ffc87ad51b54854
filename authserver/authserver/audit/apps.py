from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "authserver.audit"
    verbose_name = "Audit log"
