"""What the endpoints share of HTTP: parameters, errors, and which origins may call them."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.request import QueryDict

from authserver.oidc.clients import authenticate
from authserver.oidc.errors import OAuthError, bad_request
from authserver.oidc.models import Application
from authserver.oidc.redirects import origin_of

View = Callable[[HttpRequest], HttpResponse]


def single(parameters: QueryDict) -> dict[str, str]:
    """The parameters, the empty ones left out; raises OAuthError where one is there twice
    (RFC 6749, 3.2), but for `resource` (RFC 8707), which is ignored."""
    for name, values in parameters.lists():
        if len(values) > 1 and name != "resource":
            raise bad_request(f"{name[:40]!r} is there twice.".replace('"', "'"))
    return {name: str(value) for name, value in parameters.items() if value}


def body_form(request: HttpRequest) -> QueryDict:
    """The form in a request's body, in the one type that OAuth2 knows (RFC 6749, appendix B;
    RFC 6750, 2.2); empty where there is none."""
    if request.content_type != "application/x-www-form-urlencoded":
        return QueryDict()
    return request.POST


def client_and_form(request: HttpRequest) -> tuple[Application, dict[str, str]]:
    """Who sends a request, and the form in its body; raises OAuthError."""
    form = single(body_form(request))
    return authenticate(form, request.headers.get("Authorization", "")), form


def error_response(error: OAuthError) -> HttpResponse:
    """An error as RFC 6749, 5.2, has it."""
    body = {"error": error.error}
    if error.description:
        body["error_description"] = error.description
    response = JsonResponse(body, status=error.status)
    response["Cache-Control"] = "no-store"
    if error.status == 401:
        response["WWW-Authenticate"] = f'Basic realm="{settings.BASE_URL}", charset="UTF-8"'
    if error.retry_after:
        response["Retry-After"] = str(error.retry_after)
    return response


def redirect_to(request: HttpRequest, url: str) -> HttpResponse:
    """To `url`, whatever its scheme, by GET: applications of a device have schemes of their own."""
    status = 303 if request.method == "POST" else 302
    return HttpResponse(status=status, headers={"Location": url})


def lacks_cookies(request: HttpRequest) -> bool:
    """Whether another site's page sent a form here, with which a browser sends no Lax cookie.

    It does with the GET that we redirect it to.
    """
    if request.method != "POST" or settings.SESSION_COOKIE_NAME in request.COOKIES:
        return False
    return request.headers.get("Origin", settings.BASE_URL) != settings.BASE_URL


def everyone(origin: str) -> bool:
    return True


def public_clients(origin: str) -> bool:
    """Whether `origin` is one of a public application's redirect URIs."""
    public = Application.objects.filter(client_type=Application.PUBLIC)
    rows = public.values_list("redirect_uris", flat=True)
    return any(origin_of(uri) == origin for uris in rows for uri in uris.split())


def endpoint(*methods: str, origins: Callable[[str], bool] | None = None) -> Callable[[View], View]:
    """An endpoint for programs: its methods, its errors, and the origins whose scripts may call it
    (CORS; never with cookies)."""

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(request: HttpRequest) -> HttpResponse:
            if request.method == "OPTIONS" and origins:
                response = HttpResponse(status=204)
                response["Access-Control-Allow-Methods"] = ", ".join(methods)
                response["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                response["Access-Control-Max-Age"] = "3600"
            elif request.method not in methods:
                response = HttpResponseNotAllowed(methods)
            else:
                try:
                    response = view(request)
                except OAuthError as error:
                    response = error_response(error)
            if origins:
                allow_origin(request, response, origins)
            return response

        answer.csrf_exempt = True  # type: ignore[attr-defined]  # no cookie counts here
        return answer

    return decorate


def allow_origin(
    request: HttpRequest, response: HttpResponse, origins: Callable[[str], bool]
) -> None:
    if origins is everyone:
        response["Access-Control-Allow-Origin"] = "*"
        return
    response["Vary"] = "Origin"
    origin = request.headers.get("Origin", "")
    if origin and origin.isprintable() and origins(origin):
        response["Access-Control-Allow-Origin"] = origin
        response["Access-Control-Expose-Headers"] = "WWW-Authenticate, Retry-After"
