"""Logins for programs that know no OAuth2."""

from django.urls import path

from authserver.checkpassword import views

urlpatterns = [
    path("checkpassword/", views.checkpassword, name="checkpassword"),
    path("getkey/", views.getkey, name="getkey"),
]
