"""The image's health check: asks the service beside it for /ready, where its settings say that it
listens, and prints the answer. Exits 0 where a login could succeed now, else 1.
"""

import http.client
import os
import ssl
import sys

# where it listens on every address, it can be asked on loopback
ANY = ("", "0.0.0.0", "::")  # noqa: S104
TIMEOUT = 4.0  # seconds; below that of the Dockerfile's HEALTHCHECK, so that the reason is kept


def connection(timeout: float) -> http.client.HTTPConnection:
    """A connection, not yet open, to the service that HOST, PORT and TLS_CERT describe."""
    host, port = os.environ.get("HOST", ""), int(os.environ.get("PORT") or 8080)
    if host in ANY:
        host = "::1" if ":" in host else "127.0.0.1"
    if not os.environ.get("TLS_CERT"):
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it asks itself: the name would not fit
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def main() -> int:
    """Ask once. Returns the exit status."""
    try:
        asked = connection(TIMEOUT)
        asked.request("GET", "/ready")
        answer = asked.getresponse()
        print(answer.status, answer.read().decode().strip())
    except (OSError, http.client.HTTPException) as error:
        print(error)
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
