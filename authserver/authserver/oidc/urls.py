"""The endpoints of OAuth2 and OpenID Connect."""

from django.urls import path

from authserver.oidc.views import authorize, devices, logout, metadata, tokens, userinfo

urlpatterns = [
    path(".well-known/openid-configuration", metadata.metadata),
    path(".well-known/oauth-authorization-server", metadata.metadata),
    path("o2/authorize/", authorize.authorize, name="authorize"),
    path("o2/consent/", authorize.agree, name="consent"),
    path("o2/token/", tokens.token),
    path("o2/revoke_token/", tokens.revoke),
    path("o2/introspect/", tokens.introspect),
    path("o2/userinfo/", userinfo.userinfo),
    path("o2/jwks/", metadata.jwks),
    path("o2/device_authorization/", tokens.device_authorization),
    path("device/", devices.device, name="device"),
    path("o2/logout/", logout.logout, name="rp-logout"),
    path("o2/logout/confirm/", logout.confirm, name="rp-logout-confirm"),
]
