"""The issuer's first key, which signs at once."""

from django.db import migrations
from django.utils import timezone

from authserver.oidc.keys import new_key


def make_first_key(apps, schema_editor):
    SigningKey = apps.get_model("oidc", "SigningKey")
    if not SigningKey.objects.exists():
        SigningKey.objects.create(**new_key(timezone.now()))


class Migration(migrations.Migration):
    dependencies = [("oidc", "0001_initial")]

    operations = [migrations.RunPython(make_first_key, migrations.RunPython.noop)]
