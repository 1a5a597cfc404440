"""Asks Fama nodes about agents, verifies their logins, and signs events. See `Client` and `AsyncClient`."""

from .cache import Profile, ProfileCache, UsedSignatures
from .client import AsyncClient, Client
from .errors import FamaError
from .events import SignedEvent, event_text, note_hash, note_text, sign_event
from .keys import PublicKey, Signer
from .login import Login, Verified, sign_login
from .stream import StreamEvent

__all__ = [
    "AsyncClient",
    "Client",
    "FamaError",
    "Login",
    "Profile",
    "ProfileCache",
    "PublicKey",
    "SignedEvent",
    "Signer",
    "StreamEvent",
    "UsedSignatures",
    "Verified",
    "event_text",
    "note_hash",
    "note_text",
    "sign_event",
    "sign_login",
]
