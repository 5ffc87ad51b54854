"""A mail server that takes every message and keeps it."""

import email
import email.message
import email.policy
import socketserver
import threading

from tests.processes import BOUND


class Session(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as a client needs to hand in a message."""

    server: "Mailbox"

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self) -> None:
        self.say("220 mailbox")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                data = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    data += line.removeprefix(b".") if line.startswith(b"..") else line
                self.server.keep(data)
            self.say("221 bye" if verb == b"QUIT" else "250 ok")


class Mailbox(socketserver.ThreadingTCPServer):
    """It listens at `url`, an EMAIL_URL."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"
        self.messages: list[email.message.EmailMessage] = []
        self.came = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def keep(self, data: bytes) -> None:
        message = email.message_from_bytes(data, policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        with self.came:
            self.messages.append(message)
            self.came.notify_all()

    def wait_for(self, count: int) -> email.message.EmailMessage:
        """The last message, once so many have come."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.messages) >= count, BOUND)
            assert len(self.messages) == count, [str(each) for each in self.messages]
            return self.messages[-1]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


def text_of(message: email.message.EmailMessage) -> str:
    return str(message.get_content())
