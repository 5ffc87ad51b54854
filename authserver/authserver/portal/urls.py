"""The pages of who is signed in."""

from django.urls import path

from authserver.portal import views

urlpatterns = [
    path("", views.applications, name="applications"),
    path("account/", views.my_data, name="my-data"),
    path("account/password/", views.password, name="password"),
    path("account/service-users/", views.service_users, name="service-users"),
    path(
        "account/service-users/<int:number>/end/", views.end_service_user, name="end-service-user"
    ),
    path("account/registries/", views.registries, name="registries"),
    path("account/sessions/", views.sessions, name="sessions"),
    path("account/sessions/end-others/", views.end_other_sessions, name="end-other-sessions"),
    path("account/sessions/<uuid:sid>/end/", views.end_session, name="end-session"),
    path("account/access/<str:client_id>/end/", views.end_access, name="end-access"),
    path(
        "account/registry-logins/<int:number>/end/",
        views.end_registry_login,
        name="end-registry-login",
    ),
]
