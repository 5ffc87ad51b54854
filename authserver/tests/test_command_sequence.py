"""A configuration manager's run, written as for the program that others have had so far (0.1.77).

It is run again, and changes nothing: what is compared is a backup of every table.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from authserver.oidc.applications import is_secret
from authserver.oidc.models import Application
from tests.command_line import Done, done, run
from tests.processes import keep_secret

pytestmark = [pytest.mark.django_db, pytest.mark.once]
PASSWORD = keep_secret("password of the sequence")
EXISTS = {"oauth2 create": 2, "serviceuser create": 1}  # of what is there; all others 0

# the verb is what stands before the first option or argument, the files are in @FOLDER@
SEQUENCE = f"""
domain create | --create-key | jwt | --jwt-allow-subdomain-signing | example.com
domain create | --create-key | dkim | --dkim-selector | mail | example.net
domain create | --redirect-all-email-to | example.com | example.org
domain list | --include-parent-domain | --format | json | sub.example.com
domain search | --require-subdomain-signing
domain pubkey | --key | jwt | -o | @FOLDER@/jwt.pem | example.com
domain pubkey | --key | dkim | --format | dkimdns | example.net
domain edit | --jwt-allow-subdomain-signing | true | example.com
user create | --password | {PASSWORD} | maria | Maria Example
user create | --staff | admin | The Admin
emailalias create | -u | maria | maria@example.com
emailalias create | --mailprefix | info | -d | example.com | -u | maria | --blacklisted
emailalias blacklist | info@example.com
user set-delivery-mailbox | maria | maria@example.com
user list | --format | json
group create | family
permissions create | --name | Photos | photos
permissions create | --name | Calendar | calendar
permissions grant user | maria | photos
permissions grant group | family | photos | calendar
permissions grant membership | maria@example.com | family
permissions show user | --format | json | maria
oauth2 create | --redirect-uri | https://wiki.example.com/cb | --skip-authorization | \
--client-type | confidential | --grant-type | authorization-code | --domain | example.com | \
--publish-to-file | @FOLDER@/wiki.json | wiki
permissions require | wiki | photos
permissions show application | wiki
oauth2 list | -f | json
serviceuser create | -u | maria | --username | scanner | --description | the scanner
dockerauth registry add | --client-id | registry.example.com | --name | registry | --domain | \
registry.example.com | --allow-unauthenticated-pull
dockerauth repo create | --registry | registry.example.com | family/*
dockerauth repo grant | --registry | registry | family/* | --group | family | pull | push
"""


def run_all(folder: Path) -> list[tuple[str, Done]]:
    """Each command's name, and what it came to."""
    lines = SEQUENCE.strip().replace("@FOLDER@", str(folder)).split("\n")
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return [(verb, run(*verb.split(), *arguments)) for verb, *arguments in parts]


def rows(folder: Path) -> list[Any]:
    """All rows of all tables."""
    file = folder / "backup"
    done("backup", str(file))
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    file.unlink()
    return [json.loads(line) for line in lines]


def test_a_run_of_a_configuration_manager_changes_nothing_the_second_time(tmp_path: Path) -> None:
    first = run_all(tmp_path)
    assert len(first) >= 24
    for verb, result in first:
        assert result.status == 0, (verb, result)
        if verb in ("oauth2 create", "domain create", "user create", "permissions grant user"):
            assert result.out == ""
    (secret,) = [result.out.strip() for verb, result in first if verb == "serviceuser create"]
    keep_secret(secret)
    published = json.loads((tmp_path / "wiki.json").read_text())
    assert is_secret(Application.objects.get(), keep_secret(published["client_secret"]))
    before = rows(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    second = run_all(tmp_path)
    for verb, result in second:
        assert result.status == EXISTS.get(verb, 0), (verb, result)
    assert rows(tmp_path) == before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    shown = {verb: result.out for verb, result in first if result.out}
    del shown["serviceuser create"]
    assert {verb: result.out for verb, result in second if result.out} == shown
