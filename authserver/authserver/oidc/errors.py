"""What is answered to a client that did something wrong."""


class OAuthError(Exception):
    """An error of RFC 6749, 5.2, with its code, a sentence for developers, and the HTTP status.

    `retry_after` in seconds where it passes by itself.
    """

    def __init__(
        self, error: str, description: str = "", status: int = 400, retry_after: int = 0
    ) -> None:
        self.error, self.description = error, description
        self.status, self.retry_after = status, retry_after


def no_grant(description: str) -> OAuthError:
    """`invalid_grant`: a code or a token that does not count, or not for this client."""
    return OAuthError("invalid_grant", description)


def no_client(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, 401)


def bad_request(description: str) -> OAuthError:
    return OAuthError("invalid_request", description)
