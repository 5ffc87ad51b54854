"""The image's health check: asks the service beside it for /health, where its settings say that it listens."""

import http.client
import os
import ssl
import sys

ANY = ("", "0.0.0.0", "::")  # noqa: S104 - where it listens on every address, it can be asked on loopback


def connection() -> http.client.HTTPConnection:
    host, port = os.environ.get("HOST", ""), int(os.environ.get("PORT") or 8080)
    if host in ANY:
        host = "::1" if ":" in host else "127.0.0.1"
    if not os.environ.get("TLS_CERT"):
        return http.client.HTTPConnection(host, port, timeout=4)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # it asks itself: the name would not fit
    return http.client.HTTPSConnection(host, port, timeout=4, context=context)


def main() -> int:
    try:
        asked = connection()
        asked.request("GET", "/health")
        answer = asked.getresponse()
        print(answer.status, answer.read().decode())
    except (OSError, http.client.HTTPException) as error:
        print(error)
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
