from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "authserver.accounts"
    verbose_name = "Accounts"
