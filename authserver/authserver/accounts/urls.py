"""The pages of accounts."""

from django.urls import path

from authserver.accounts import views

urlpatterns = [
    path("account/login/", views.login, name="login"),
    path("account/logout/", views.logout, name="logout"),
    path("account/password/reset/", views.password_reset, name="password-reset"),
    path(
        "account/password/set/<uuid:user_id>/<str:token>/", views.password_set, name="password-set"
    ),
    path("setup/", views.first_start, name="setup"),
    # Django's admin has a sign-in of its own, which knows no throttle, no NAS and no second factor
    path("admin/login/", views.login),
    path("admin/logout/", views.logout),
]
