"""authserver: light single sign-on for the accounts of a NAS or a small server."""

__version__ = "0.1.0"
