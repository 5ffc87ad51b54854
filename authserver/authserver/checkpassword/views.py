"""`/checkpassword/` and `/getkey/`: logins for programs that know no OAuth2."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from authserver import signing
from authserver.accounts.login import (
    UNREACHABLE,
    Credentials,
    LoginRefused,
    check_login,
    check_throttle,
    owner_of,
)
from authserver.accounts.models import User
from authserver.accounts.standing import NasUnreachable, still_good
from authserver.checkpassword.requests import BadRequest, Question, read_question
from authserver.checkpassword.tokens import make_token
from authserver.domains.keys import signing_key
from authserver.domains.models import DomainKey
from authserver.registry.keys import key_pair
from authserver.waits import leave_after, results_of

NO = {"authenticated": False, "authorized": False}


@csrf_exempt
@require_POST
def checkpassword(request: HttpRequest) -> HttpResponse:
    """Judged in this order: 400, 404, 429, 403, the verdict."""
    try:
        question = read_question(request)
    except BadRequest as error:
        return JsonResponse({"error": str(error)}, status=400)
    key = signing_key(question.domain)
    if key is None:
        return JsonResponse({"error": "No such domain, or it has no key"}, status=404)
    try:
        if question.password is None:
            return without_password(request, question, key)
        given = Credentials(question.username, question.password, question.client, "checkpassword")
        user = check_login(given, results_of(request), service_users=True)
    except LoginRefused as refusal:
        return leave_after(request, refused(refusal), settings.ENV.refusal_seconds)
    return token(question, key, user, authenticated=True)


def refused(refusal: LoginRefused) -> HttpResponse:
    if refusal.status in (401, 403):  # 403: a right password whose account may not come in
        return JsonResponse(NO, status=401)
    response = JsonResponse({"error": refusal.text}, status=refusal.status)
    response["Retry-After"] = str(refusal.retry_after)
    return response


def without_password(request: HttpRequest, question: Question, key: DomainKey) -> HttpResponse:
    """What a user may do, for who is trusted to ask: nobody else learns which names exist."""
    check_throttle(question.username, question.client, "checkpassword")
    if not question.trusted and not settings.ENV.checkpassword_open:
        text = "Without a password, send Authorization: Bearer CHECKPASSWORD_TOKEN"
        return JsonResponse({"error": text}, status=403)
    user = owner_of(question.username)
    try:
        good = user is not None and still_good(user, results_of(request))
    except NasUnreachable:
        raise LoginRefused(503, UNREACHABLE, 10) from None
    if user is None or not good:
        return JsonResponse(NO, status=401)
    return token(question, key, user, authenticated=False)


def token(question: Question, key: DomainKey, user: User, *, authenticated: bool) -> HttpResponse:
    made = make_token(
        key,
        user,
        sent_name=question.username,
        authenticated=authenticated,
        wanted=question.scopes,
        nonce=question.nonce,
    )
    return HttpResponse(made, content_type="application/jwt")


def domain_pair(name: str) -> tuple[str, str] | None:
    key = signing_key(name)
    return (signing.public_pem(key.private_key), key.certificate) if key else None


# by the parameter `type`: a domain's name, or a registry's client id, to public key and certificate
KEYS = {"d": domain_pair, "r": key_pair}


def lines_of(pem: str) -> list[str]:
    return pem.strip().split("\n")


@require_safe
def getkey(request: HttpRequest) -> HttpResponse:
    """The public key, or the certificate, that what is signed for a domain is checked with."""
    if settings.HTTPS and request.scheme != "https":
        return JsonResponse({"error": "Ask by https"}, status=400)
    asked = {name: request.GET.getlist(name) for name in ("domain", "type", "format")}
    if any(len(values) > 1 for values in asked.values()):
        return JsonResponse({"error": "A parameter is given twice"}, status=400)
    host = urlsplit(settings.BASE_URL).hostname or ""
    domain, kind, form = (
        (asked[name] or [default])[0]
        for name, default in (("domain", host), ("type", "d"), ("format", "pubkey"))
    )
    if kind not in KEYS or form not in ("pubkey", "cert") or not domain:
        text = "domain=NAME, type=d or r, format=pubkey or cert"
        return JsonResponse({"error": f"Bad parameter: it is {text}"}, status=400)
    pair = KEYS[kind](domain)
    if pair is None:
        return JsonResponse({"error": "No such domain, or it has no key"}, status=404)
    public_key, certificate = pair
    if form == "cert":
        return JsonResponse({"cert": lines_of(certificate)})
    return JsonResponse({"public_key_pem": lines_of(public_key)})
