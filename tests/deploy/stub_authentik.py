"""authentik's API with one user, whose name is given, and a session of his: what a deployment of
authentik-sync.py needs to show that it works. Prints each change. Runs with Python alone."""

import http.server
import json
import sys
from urllib.parse import urlsplit

TOKEN = "a-token-of-the-stub-of-authentik"
USER: dict[str, object] = {"pk": 7, "is_active": True, "attributes": {"ugos_user": True}}
SESSIONS = [{"uuid": "0f8b", "user": 7}]


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/v3/core/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = 200
        content: object = None
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, content = 403, {"detail": "Token invalid/expired"}
        elif self.command == "PATCH":
            USER.update(json.loads(body))
            content = USER
        elif self.command == "DELETE":
            status = 204
            SESSIONS.clear()
        elif path == "users/7/":
            content = USER
        else:
            rows = {"users/": [USER], "authenticated_sessions/": SESSIONS}.get(path, [])
            content = {"pagination": {"next": 0}, "results": rows}
        if self.command != "GET":
            print(self.command, path, USER["is_active"], len(SESSIONS), flush=True)
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    USER["username"] = sys.argv[1]
    everywhere = "0.0.0.0"  # noqa: S104 - of a container or a machine of its own
    http.server.ThreadingHTTPServer((everywhere, 9000), Handler).serve_forever()
