"""What the clients do, without I/O: each operation yields requests, is sent the answers, and returns a result."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from .cache import Profile, ProfileCache, UsedSignatures
from .errors import FamaError
from .events import SignedEvent, event_text, note_hash, note_text, sign_event
from .keys import PublicKey, Signer
from .login import Login, Verified, check_login, read_login

ANSWER_BYTES_MAX = 4 << 20
"""Largest answer that is read, in bytes."""

REFETCH_SECONDS = 2.0
"""How old a kept profile must be to be asked for again when a signature does not match: the key may be new."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: str
    body: bytes | None = None
    signed: SignedEvent | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Steps = Generator[Request, Response, T]
Json = dict[str, Any]


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(min(int(value[:9]), 86_400 * 366))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _read(request: Request, response: Response, now: float) -> Json:
    try:
        answer = json.loads(response.body)
    except (ValueError, RecursionError):
        answer = None
    if 200 <= response.status < 300:
        if isinstance(answer, dict):
            return answer
        raise FamaError("bad_answer", "the node's answer is not a JSON object", status=response.status)
    told: Json = answer if isinstance(answer, dict) else {}
    raise FamaError(
        str(told.get("code", f"http_{response.status}"))[:100],
        str(told.get("error", "the node gave no reason"))[:2_000],
        status=response.status,
        retry_after=_retry_after(response.headers.get("retry-after"), now),
        signed=request.signed,
    )


def check_profile(asked: str, profile: Json) -> Profile:
    """Refuses an answer that is no profile, or about another agent than the one asked for."""
    try:
        identity, status = profile["identity"], profile["key_status"]
        names = [identity[name] for name in ("dumbname", "handle", "agent_id", "did")]
        texts = [*names, identity["public_key"], profile["ledger"]["home"]]
        whole = all(isinstance(text, str) for text in texts)
        whole = whole and all(isinstance(status[name], bool) for name in ("is_revoked", "is_suspended"))
        numbers = (identity["key_version"], profile["reputation"]["global_score"])
        whole = whole and all(isinstance(number, int) for number in numbers)
    except (KeyError, TypeError) as error:
        raise FamaError("bad_answer", f"the node's answer is not a profile: {error!r}") from error
    if not whole:
        raise FamaError("bad_answer", "the node's answer is not a profile")
    if asked not in names:
        raise FamaError("wrong_agent", f"asked for {asked!r}, the node answered about {identity['handle']!r}")
    return profile


class Core:
    """The state and the operations that both clients share."""

    def __init__(
        self,
        query_url: str,
        *,
        submit_url: str | None,
        federation: str | None,
        cache: ProfileCache,
        used: UsedSignatures,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.query_url = query_url.rstrip("/")
        self.submit_url = submit_url.rstrip("/") if submit_url else None
        self.federation = federation
        self.cache = cache
        self.used = used
        self.clock = clock

    def _ask(self, request: Request) -> Steps[Json]:
        response = yield request
        return _read(request, response, self.clock())

    def _get(self, path: str, **query: object) -> Steps[Json]:
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask(Request("GET", self.query_url + path + (f"?{urlencode(given)}" if given else "")))

    def get_agent(self, agent: str) -> Steps[Profile]:
        if not agent or len(agent) > 512 or not agent.isascii() or agent in (".", ".."):
            raise FamaError("bad_name", "want a name@home, an id or a DID", status=400)
        begun = self.cache.begin()
        answer = yield from self._get(f"/api/agent/{quote(agent, safe='@:')}")
        profile = check_profile(agent, answer)
        self.cache.put(agent, profile, begun)
        return profile

    def _kept(self, agent: str) -> Steps[tuple[Profile, float]]:
        """A profile that is fresh enough, and its age; an older one if no node answers."""
        if fresh := self.cache.fresh(agent):
            return fresh
        try:
            return (yield from self.get_agent(agent)), 0.0
        except FamaError as error:
            if error.status is not None and error.status < 500 and error.status != 429:
                raise
            offline = self.cache.offline(agent)
            if offline is None or error.code in ("wrong_agent", "bad_answer"):
                raise
            return offline, 0.0

    def verify(self, login: Login, *, min_karma: int | None = None) -> Steps[Verified]:
        signature = read_login(login, self.clock())
        profile, age = yield from self._kept(login.dumbname)
        try:
            return check_login(login, signature, profile, self.used, min_karma=min_karma, now=self.clock())
        except FamaError as error:
            if error.code not in ("bad_signature", "bad_signature_form", "revoked", "suspended", "low_karma"):
                raise
            if age < REFETCH_SECONDS:
                raise
        profile = yield from self.get_agent(login.dumbname)
        return check_login(login, signature, profile, self.used, min_karma=min_karma, now=self.clock())

    def verify_remote(self, login: Login) -> Steps[Verified]:
        members = {name: getattr(login, name) for name in ("dumbname", "timestamp", "signature", "message")}
        answer = yield from self._ask(Request("POST", self.query_url + "/api/verify", json.dumps(members).encode()))
        if answer.get("verified") is not True:
            raise FamaError("bad_answer", "the node neither verified the login nor said why not")
        return Verified(str(answer.get("agent_id")), str(answer.get("handle")), None, None)

    def get_leaderboard(self, limit: int | None = None, cursor: str | None = None) -> Steps[Json]:
        return self._get("/api/leaderboard", limit=limit, cursor=cursor)

    def get_status(self) -> Steps[Json]:
        return self._get("/api/status")

    def submit(self, signed: SignedEvent, *, wait_final: bool = False) -> Steps[Json]:
        if self.submit_url is None:
            raise FamaError("no_submit_url", "give the client the address of a submit listener")
        url = f"{self.submit_url}/events{'?wait=final' if wait_final else ''}"
        return self._ask(Request("POST", url, json.dumps(signed.body()).encode(), signed))

    def _text(self, kind: str, fields: dict[str, str | int | None]) -> str:
        if self.federation is None:
            raise FamaError("no_federation", "give the client the id of the federation that you mean")
        return event_text(kind, fields, federation=self.federation, created=None)

    def register(
        self, name: str, home: str, signer: Signer, *, next_key: PublicKey | None, bio: str | None,
        invite: str | None, wait_final: bool,
    ) -> Steps[Json]:  # fmt: skip
        note = note_text(bio=bio)
        fields: dict[str, str | int | None] = {
            "home": home, "name": name, "key": signer.public.text,
            "next": next_key.commitment if next_key else None, "note": note_hash(note) if note else None,
        }  # fmt: skip
        signed = sign_event(self._text("register", fields), signer, note=note, invite=invite)
        return self.submit(signed, wait_final=wait_final)

    def rotate_key(
        self, agent: str, new: Signer, *, current: Signer | None, next_key: PublicKey | None, wait_final: bool
    ) -> Steps[Json]:
        profile = yield from self.get_agent(agent)
        identity = profile["identity"]
        fields: dict[str, str | int | None] = {
            "home": profile["ledger"]["home"], "identity": identity["agent_id"],
            "version": identity["key_version"] + 1, "key": new.public.text,
            "next": next_key.commitment if next_key else None,
        }  # fmt: skip
        text = self._text("rotate", fields)
        signed = sign_event(text, current, new) if current else sign_event(text, new)
        return (yield from self._changed(identity["agent_id"], signed, wait_final))

    def revoke_key(self, agent: str, signer: Signer, *, reason: str, wait_final: bool) -> Steps[Json]:
        profile = yield from self.get_agent(agent)
        identity = profile["identity"]
        revoked = PublicKey.from_pem(identity["public_key"]).text
        fields: dict[str, str | int | None] = {
            "home": profile["ledger"]["home"], "identity": identity["agent_id"],
            "version": identity["key_version"], "key": revoked, "reason": reason,
        }  # fmt: skip
        other = signer.public.text if signer.public.text != revoked else None
        signed = sign_event(self._text("revoke", fields), signer, signer=other)
        return (yield from self._changed(identity["agent_id"], signed, wait_final))

    def _changed(self, agent_id: str, signed: SignedEvent, wait_final: bool) -> Steps[Json]:
        receipt = yield from self.submit(signed, wait_final=wait_final)
        self.cache.drop(agent_id)
        return receipt

    def attest_karma(
        self, agent: str, delta: int, issuer: str, signer: Signer, *, context: str | None, reason: str | None,
        ref: str | None, wait_final: bool,
    ) -> Steps[Json]:  # fmt: skip
        provider = yield from self.get_agent(issuer)
        subject = yield from self.get_agent(agent)
        note = note_text(reason=reason, ref=ref)
        fields: dict[str, str | int | None] = {
            "home": provider["ledger"]["home"], "issuer": provider["identity"]["agent_id"],
            "subject": subject["identity"]["agent_id"], "delta": delta, "context": context,
            "note": note_hash(note) if note else None,
        }  # fmt: skip
        signed = sign_event(self._text("attest", fields), signer, note=note)
        return (yield from self._changed(subject["identity"]["agent_id"], signed, wait_final))
