"""The yardsticks: bare Django views, without middleware or a database.

`application` is how Django serves them; `ours` has authserver's way of running a request instead.
"""

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 32, LOGGING_CONFIG=None
)
django.setup()

from authserver import signing  # noqa: E402
from authserver.handler import Handler, Threads  # noqa: E402

KEY = signing.make_private_key()


def bare(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def signature(request: HttpRequest) -> HttpResponse:
    return HttpResponse(signing.sign(KEY, {"sub": "bench"}))


urlpatterns = [path("bare/", bare), path("signature/", signature)]
application = ASGIHandler()
ours = Threads(Handler())
