"""authentik/core/auth.py: the backend that sessions name and that checks authentik's own
passwords."""

from django.contrib.auth.backends import ModelBackend

INBUILT = "authentik.core.auth.InbuiltBackend"
TOKEN = "authentik.core.auth.TokenBackend"


class InbuiltBackend(ModelBackend):
    """Django's: inactive users neither log in nor keep a session."""


class TokenBackend(InbuiltBackend):
    """App passwords; sessions made with one name it."""
