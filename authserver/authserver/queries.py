"""What queries of several apps share."""

from typing import TypeVar

from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)


def one(rows: "QuerySet[M]") -> M | None:
    """The row of a query that finds one at most, by a unique column; `first` would sort it."""
    return next(iter(rows), None)
