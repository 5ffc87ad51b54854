"""authserver oidc: the keys that sign id_tokens."""

from django.db import transaction

from authserver.commands import Noun, Options, Verbs, actor, output, say, with_format
from authserver.oidc import keys
from authserver.oidc.models import SigningKey

COLUMNS = ("kid", "state", "created_at", "signs_from")


class Command(Noun):
    help = "The keys that sign id_tokens."

    def add_verbs(self, verbs: Verbs) -> None:
        rotating = verbs.add(
            "rotate-key", self.rotate, "publish a new key, which signs from an hour later"
        )
        rotating.add_argument(
            "--now", action="store_true", help="it signs at once: clients may not know it yet"
        )
        with_format(verbs.add("keys", self.keys, "show the keys"))

    @transaction.atomic
    def rotate(self, options: Options) -> None:
        key = keys.rotate(now=options.now, actor=actor())
        say(f"The key {key.kid} signs from {key.signs_from:%Y-%m-%dT%H:%M:%SZ}.")

    def keys(self, options: Options) -> None:
        rows = [
            {
                "kid": key.kid,
                "state": keys.state_of(key),
                "created_at": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
                "signs_from": f"{key.signs_from:%Y-%m-%dT%H:%M:%SZ}",
            }
            for key in SigningKey.objects.all()
        ]
        output(rows, COLUMNS, options.format)
