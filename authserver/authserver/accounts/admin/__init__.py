"""The admin of accounts: people, what they belong to and hold, and what they have open."""

from authserver.accounts.admin import groups, sessions, throttle, users

__all__ = ["groups", "sessions", "throttle", "users"]
