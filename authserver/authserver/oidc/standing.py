"""Whether the account behind a token counts, said in OAuth's words."""

from authserver.accounts.models import User
from authserver.accounts.standing import NasUnreachable, still_good
from authserver.oidc.errors import OAuthError
from authserver.waits import Results

RETRY_SECONDS = 10


def counts(user: User | None, results: Results) -> bool:
    """Whether what is open in the name of `user` counts; None: an application's own.

    Raises a Wait where the NAS has to be asked, and OAuthError (503) where it cannot be.
    """
    if user is None:
        return True
    try:
        return still_good(user, results)
    except NasUnreachable:
        raise OAuthError(
            "temporarily_unavailable", "The NAS cannot be reached.", 503, RETRY_SECONDS
        ) from None
