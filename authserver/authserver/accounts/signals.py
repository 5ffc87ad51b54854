"""What others do when an account's open things end."""

from django.dispatch import Signal

# sender: the User's class; user: whose sessions and tokens have to end, all of them
ended = Signal()
# session: whose tokens (those without offline_access) end with it; sent before it is deleted
session_ending = Signal()
