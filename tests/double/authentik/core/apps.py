"""The Django app, under authentik's own label."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "authentik.core"
    label = "authentik_core"
    default_auto_field = "django.db.models.AutoField"
