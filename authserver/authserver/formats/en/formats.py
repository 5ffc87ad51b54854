"""How times are written where they are not in words: as ISO 8601 does, to the minute."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i"
