"""The parts of authentik's package that a policy may import. Whoever imports them finds Django
ready."""

from settings import configure

configure()
