"""Times for people. The server does not know their time zone, so near ones are relative."""

import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


def in_words(then: datetime.datetime, now: datetime.datetime) -> str:
    """As "just now", "5 minutes ago", "3 hours ago", "2 days ago", "3 November 2026"."""
    seconds = (now - then).total_seconds()
    for size, unit, most in ((60, "minute", 60), (3600, "hour", 24), (86400, "day", 7)):
        number = int(seconds // size)
        if number < 1:
            return "just now" if unit == "minute" else f"1 {unit} ago"
        if number < most:
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return f"{then.day} {then:%B %Y}"


@register.filter
def ago(then: datetime.datetime | None) -> SafeString | str:
    """A past time as a `time` element; "never" for None."""
    if then is None:
        return "never"
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        then.isoformat(timespec="seconds"),
        f"{then:%Y-%m-%d %H:%M}",
        in_words(then, timezone.now()),
    )
