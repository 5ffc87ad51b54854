"""The pages of accounts."""

from django.urls import path

from authserver.accounts import views

urlpatterns = [
    path("account/login/", views.login, name="login"),
    path("account/logout/", views.logout, name="logout"),
]
