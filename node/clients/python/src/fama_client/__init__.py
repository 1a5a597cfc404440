"""Asks Fama nodes about agents, verifies their logins and tokens, and signs events.

See `Client` and `AsyncClient`, and for APIs that accept tokens `ResourceServer` and `AsyncResourceServer`.
"""

from .cache import Profile, ProfileCache, UsedSignatures
from .client import AsyncClient, Client
from .errors import FamaError
from .events import SignedEvent, event_text, note_hash, note_text, sign_event
from .keys import PublicKey, Signer
from .login import Login, Verified, sign_login
from .manifest import Manifest
from .resource import AsyncResourceServer, Refused, ResourceServer
from .stream import StreamEvent
from .tokens import (
    AccessToken,
    AgentCall,
    Delegation,
    DpopProof,
    call_subject,
    check_access_token,
    check_agent_call,
    check_delegation,
    check_dpop,
)

__all__ = [
    "AccessToken",
    "AgentCall",
    "AsyncClient",
    "AsyncResourceServer",
    "Client",
    "Delegation",
    "DpopProof",
    "FamaError",
    "Login",
    "Manifest",
    "Profile",
    "ProfileCache",
    "PublicKey",
    "Refused",
    "ResourceServer",
    "SignedEvent",
    "Signer",
    "StreamEvent",
    "UsedSignatures",
    "Verified",
    "call_subject",
    "check_access_token",
    "check_agent_call",
    "check_delegation",
    "check_dpop",
    "event_text",
    "note_hash",
    "note_text",
    "sign_event",
    "sign_login",
]
