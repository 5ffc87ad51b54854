"""authclient: logins at authserver for programs that know no OAuth2."""

__version__ = "0.1.0"
