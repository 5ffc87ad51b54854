"""Where each app's pages and endpoints are."""

from django.contrib import admin
from django.urls import include, path

from authserver.health import health

handler500 = "authserver.http.server_error"
urlpatterns = [
    path("", include("authserver.oidc.urls")),  # first: programs ask it most
    path("", include("authserver.accounts.urls")),
    path("", include("authserver.portal.urls")),
    path("admin/", admin.site.urls),
    path("", include("authserver.checkpassword.urls")),
    path("", include("authserver.registry.urls")),
    path("health/", health, name="health"),
]
