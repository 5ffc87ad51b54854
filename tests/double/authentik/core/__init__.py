"""authentik.core: users, groups, and the signal of a failed login."""
