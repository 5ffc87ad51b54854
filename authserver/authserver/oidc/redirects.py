"""Redirect URIs: which may be registered, which one is meant, and what is appended to them."""

import re
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

# the loopback addresses of RFC 8252, 7.3; `localhost` may be another machine's name
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?(?=[/?]|\Z)")
PRIVATE_USE = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")  # RFC 8252, 7.1


def check_uri(uri: str, *, public: bool, allow_http: bool) -> None:
    """Raises ValueError, with a sentence, where `uri` can never be right."""
    if not re.fullmatch(r"[!-\[\]-~]+", uri) or re.search(r"[\"<>^`{|}]", uri) or len(uri) > 2000:
        raise ValueError("A redirect URI has visible ASCII characters only.")
    if "#" in uri:
        raise ValueError("A redirect URI has no fragment.")
    try:
        url = urlsplit(uri)
        _ = url.port
    except ValueError:
        raise ValueError(f"{uri} is not a URI.") from None
    scheme = uri.partition(":")[0]
    if scheme in ("http", "https"):
        check_web(url.hostname, url.username, uri, scheme)
        if scheme == "http" and not (LOOPBACK.match(uri) if public else allow_http):
            raise ValueError(
                f"{uri} uses http: a public application may do so on 127.0.0.1 and [::1] only, "
                "a confidential one where http is allowed."
            )
        return
    if not PRIVATE_USE.fullmatch(scheme):
        raise ValueError(
            f"{uri} must begin with https://, or with a scheme of its own that has a dot, "
            "as com.example.app:/callback."
        )
    if not public:
        raise ValueError(f"{uri}: only a public application may have a scheme of its own.")


def check_web(host: str | None, username: str | None, uri: str, scheme: str) -> None:
    if not host or not uri.startswith(f"{scheme}://"):
        raise ValueError(f"{uri} has no host.")
    if username is not None:
        raise ValueError(f"{uri} has a user name in it.")


def is_registered(uri: str, registered: Iterable[str], *, public: bool) -> bool:
    """Whether `uri` is one of them, byte for byte; on loopback, of a public client, at any port."""
    if uri in registered:
        return True
    if not public or not is_loopback(uri):
        return False
    return LOOPBACK.sub(r"http://\1", uri) in (
        LOOPBACK.sub(r"http://\1", known) for known in registered if LOOPBACK.match(known)
    )


def is_loopback(uri: str) -> bool:
    found = LOOPBACK.match(uri)
    return bool(found) and int((found[2] or ":80")[1:]) <= 65535  # type: ignore[index]


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """`uri` with parameters in its query, those that are empty left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    if not query:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{query}"


def origin_of(uri: str) -> str:
    """The origin of a web address, as browsers send it; "" for any other."""
    url = urlsplit(uri)
    if url.scheme not in ("http", "https") or not url.hostname:
        return ""
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    own_port = {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port not in (None, own_port) else "")


def form_source(uri: str) -> str:
    """What the CSP's `form-action` must name, so that a form may end at `uri`.

    A scheme alone for what has no host, and for IPv6 addresses, which a CSP cannot name.
    """
    origin = origin_of(uri)
    if not origin or "[" in origin:
        return f"{uri.partition(':')[0]}:"
    return origin
