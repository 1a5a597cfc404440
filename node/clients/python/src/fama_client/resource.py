"""An API that accepts the tokens of a federation's issuers, and hears what was withdrawn since they were issued."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Required, Self, TypedDict, Unpack
from urllib.parse import urlsplit

import httpx

from .cache import UsedSignatures
from .client import AsyncClient, Client
from .core import Request, Response
from .errors import FamaError
from .manifest import Manifest
from .stream import SILENCE_SECONDS, BrokenStream, Stream, StreamEvent
from .tokens import SKEW_SECONDS, TOKEN_SECONDS_MAX, AccessToken, DpopProof, check_access_token, check_dpop

RENEWAL_SECONDS = 300.0
"""How often the node is asked for newer versions of the manifest."""

RENEWAL_SECONDS_MIN = 10.0
"""How soon it may be asked again because of a token that names an unknown key or version."""

RENEWAL_WAIT_SECONDS = 2.0
"""How long such a token waits for an answer that another one asked for."""

STRICT_SECONDS = 10.0
"""How long a strict server accepts tokens without a stream."""

EVENTS_MAX = 100_000
EVENT_SECONDS = float(TOKEN_SECONDS_MAX + SKEW_SECONDS + 60)
"""For how long an event is remembered: a token whose issuer did not know it, being a minute behind, has ended by then."""

PROOFS_MAX = 65_536
PROOFS_PER_AGENT_MAX = 1_024
"""Most DPoP proofs that are remembered, each for about a minute: of one agent, whatever its keys, and of all."""

DPOP_ALGORITHMS = ["EdDSA", "Ed25519", "ES256"]

_EVENT_ID = re.compile(r"[1-9][0-9]{0,9}\.[A-Za-z0-9_-]{1,8192}")
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_VISIBLE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_UNQUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_HOST = re.compile(r"^[a-z]+://[^/?#]*", re.IGNORECASE)
_WITHDRAWN = "something happened to this agent's key or access after the token was issued: get a new one"
_UNSEEN = "this server cannot know what happened since the token was issued: get a new one"
_log = logging.getLogger(__name__)

Headers = Iterable[tuple[str, str]]


class Refused(FamaError):
    """A request that is not let through. Answer with `status` and `headers`; `code` is stable.

    - 401: `no_credentials`; all codes of the module `tokens`; `withdrawn`; with DPoP `dpop_required`, `not_bound`,
      `dpop_header`, and `used` for a proof that came before.
    - 400 `bad_authorization`: several Authorization headers, or one without a token.
    - 403: `insufficient_scope`, `low_karma`.
    - 503: `later_version` for a token whose issuer uses a version of the manifest that this server could not get;
      `no_stream` from a strict server; `busy` if no more DPoP proofs can be remembered now, 429 if only of one key.
    """

    def __init__(self, cause: FamaError, challenge: str | None = None) -> None:
        super().__init__(cause.code, cause.message, status=cause.status, retry_after=cause.retry_after)
        self.headers: dict[str, str] = {}
        if challenge:
            self.headers["WWW-Authenticate"] = challenge
        if cause.retry_after:
            self.headers["Retry-After"] = str(int(cause.retry_after))


class _Withdrawals:
    """What happened to agents' keys and access lately, and up to where a token's issuer must have read the logs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By identity and, for grants, the granting identity: the newest event in each log. Of ids the first half, as DIDs
        # have it.
        self._newest: dict[tuple[str, str], dict[str, int]] = {}
        self._order: deque[tuple[float, tuple[str, str], str, int]] = deque()
        self._floor: dict[str, int] = {}
        self._raised = 0.0

    def begin(self, sizes: dict[str, int], now: float) -> None:
        """What happened before was not heard."""
        with self._lock:
            for log, size in sizes.items():
                self._raise_floor(log, size, now)

    def _raise_floor(self, log: str, size: int, now: float) -> None:
        self._raised = now
        self._floor[log] = max(size, self._floor.get(log, 0))

    def hear(self, fields: dict[str, Any], logs: Collection[str], now: float) -> None:
        """Raises `BrokenStream` for an event that cannot be read; `FamaError` `later_version` for one of another log."""
        granting = fields.get("provider") if fields.get("kind") in ("grant", "ungrant") else ""
        match (fields.get("identity"), granting, fields.get("log"), fields.get("index")):
            case (str(identity), str(provider), str(log), int(index)) if (
                _IDENTITY.fullmatch(identity) and (not provider or _IDENTITY.fullmatch(provider)) and 0 <= index < 1 << 63
            ):
                key = (identity[:32], provider[:32])
            case _:
                raise BrokenStream("an event cannot be read")
        if log not in logs:
            raise FamaError("later_version", "a log that the manifest does not have", status=503)
        with self._lock:
            self._forget(now)
            while len(self._order) >= EVENTS_MAX:
                _, _, early, at = self._order[0]
                self._raise_floor(early, at + 1, now)
                self._drop()
            newest = self._newest.setdefault(key, {})
            newest[log] = max(index, newest.get(log, -1))
            self._order.append((now, key, log, index))

    def _forget(self, now: float) -> None:
        while self._order and now - self._order[0][0] > EVENT_SECONDS:
            self._drop()
        if now - self._raised > EVENT_SECONDS:
            self._floor.clear()

    def _drop(self) -> None:
        _, key, log, index = self._order.popleft()
        newest = self._newest.get(key, {})
        if newest.get(log) == index:
            del newest[log]
        if not newest:
            self._newest.pop(key, None)

    def expect_known(self, token: AccessToken, frontier: dict[str, int], ends: dict[str, int], now: float) -> None:
        """Refuses a token whose issuer may not have known what happened beyond `frontier`. `ends` are a version's."""

        def reaches(log: str, size: int) -> bool:
            # Beyond its end a log has nothing, whatever was heard of it before.
            return min(size, ends.get(log, size)) <= frontier.get(log, 0)

        with self._lock:
            self._forget(now)
            if not all(reaches(log, size) for log, size in self._floor.items()):
                raise FamaError("withdrawn", _UNSEEN, status=401)
            agent, service = token.identity[:32], token.service.rpartition(":")[2]
            for key in ((agent, ""), (agent, service), (service, "")):
                newest = self._newest.get(key, {})
                if not all(reaches(log, index + 1) for log, index in newest.items()):
                    raise FamaError("withdrawn", _WITHDRAWN, status=401)


class ResourceOptions(TypedDict, total=False):
    """What a resource server must be told, and may be.

    `genesis` is the text of the manifest's first version, or a chain: whoever gives it names the federation. `issuers`
    are the origins of the issuers that are accepted, at least one. `resource` is the server's own name, the `aud` of
    its tokens: its `https` URL or its DID. `url` is the address under which clients reach it, for the metadata and
    DPoP, by default `resource`. `scopes` are those that the metadata shows. `strict` refuses tokens once the node's
    stream was not followed for `STRICT_SECONDS`. `clock` gives Unix time in seconds. `on_state` is called with `live`
    when that changes.
    """

    genesis: Required[str]
    issuers: Required[Collection[str]]
    resource: Required[str]
    url: str
    scopes: Collection[str]
    strict: bool
    clock: Callable[[], float]
    on_state: Callable[[bool], None]


class _Base:
    """The rules and the memory of both servers, without I/O."""

    def __init__(self, query_url: str, **options: Unpack[ResourceOptions]) -> None:
        issuers, self._resource, self._scopes = options["issuers"], options["resource"], options.get("scopes", ())
        if isinstance(issuers, str) or not issuers:
            raise ValueError("want a list of issuers: whose tokens are accepted has no default")
        if not all(re.fullmatch(r"https?://[^/?#]+", one) for one in issuers):
            raise ValueError("want issuers as origins, without a slash at the end")
        if not re.fullmatch(r"did:agent:[a-z0-9.-]+:[0-9a-f]{32}|https://[^/?#]+[^?#]*", self._resource):
            raise ValueError("want the resource's own name: its DID, or its https address without a query")
        self._issuers, url = list(issuers), options.get("url", self._resource)
        if not all(map(_VISIBLE.fullmatch, [*self._issuers, self._resource, url, *self._scopes])):
            raise ValueError("issuers, resource, url and scopes are visible ASCII without quotes and backslashes")
        if not url.startswith(("https://", "http://")) or re.search("[?#]", url):
            raise ValueError("want url, the address under which clients reach it: the resource is no address")
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self.metadata_path = "/.well-known/oauth-protected-resource" + (parts.path if parts.path != "/" else "")
        """Where `metadata` is to be served (RFC 9728, section 3.1)."""
        self._manifest = Manifest.read(options["genesis"])
        self._strict = options.get("strict", False)
        self._clock = options.get("clock", time.time)
        self._on_state = options.get("on_state")
        self._withdrawals = _Withdrawals()
        self._proofs = UsedSignatures(used_max=PROOFS_MAX, per_agent_max=PROOFS_PER_AGENT_MAX)
        self._stream = Stream(query_url, [("kind", "key,access")])
        self._chain = Request("GET", f"{query_url}/api/federation/manifests")
        self._asked = self._renewed = float("-inf")
        # The node told of a version that is not held.
        self._due = False
        self._live, self._changed = False, self._clock()

    @property
    def live(self) -> bool:
        """Whether the node's stream is followed now, so that a token ends as soon as it is withdrawn.

        While it is not, tokens hold until they expire.
        """
        return self._live

    @property
    def manifest(self) -> Manifest:
        """The newest that is held."""
        return self._manifest

    def metadata(self) -> dict[str, Any]:
        """The metadata of a protected resource (RFC 9728), to be served as JSON at `metadata_path`."""
        return {
            "resource": self._resource,
            "authorization_servers": self._issuers,
            **({"scopes_supported": list(self._scopes)} if self._scopes else {}),
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
            "dpop_bound_access_tokens_required": False,
        }

    def _check(
        self, method: str, path: str, headers: list[tuple[str, str]], scope: str | None, min_karma: int | None
    ) -> AccessToken:
        now = self._clock()
        scheme, text = self._credentials(headers)
        proof = None
        with self._refusing(scheme, "invalid_token"):
            token = self._token(scheme, text, now)
        if scheme == "DPoP":
            with self._refusing(scheme, "invalid_dpop_proof"):
                proof = self._proof(token, text, method, path, headers, now)
        if scope is not None and not set(scope.split()) <= set(token.scopes):
            missing = FamaError("insufficient_scope", f"this needs the scope {scope}", status=403)
            raise self._refused(scheme, "insufficient_scope", missing, scope)
        if min_karma is not None and token.karma < min_karma:
            message = f"{token.client_id} has {token.karma} karma, {min_karma} are needed"
            raise Refused(FamaError("low_karma", message, status=403))
        if proof:
            # Last, so that what is refused anyway fills no memory.
            with self._refusing(scheme, "invalid_dpop_proof"):
                self._use(token, proof, now)
        return token

    def _credentials(self, headers: list[tuple[str, str]]) -> tuple[str, str]:
        found = _values(headers, "authorization")
        if len(found) > 1:
            error = FamaError("bad_authorization", "want one Authorization header", status=400)
            raise self._refused("Bearer", "invalid_request", error)
        scheme, _, token = found[0].strip().partition(" ") if found else ("", "", "")
        known = {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower())
        if known is None:
            error = FamaError("no_credentials", "want a token: Authorization: Bearer …", status=401)
            raise self._refused("Bearer", None, error)
        if not token:
            error = FamaError("bad_authorization", "the Authorization header has no token", status=400)
            raise self._refused(known, "invalid_request", error)
        return known, token.strip()

    def _refused(self, scheme: str, error: str | None, cause: FamaError, scope: str | None = None) -> Refused:
        if cause.status not in (400, 401, 403):
            return Refused(cause)
        said: dict[str, str] = {}
        if error:
            # A message may have a stranger's text in it.
            said |= {"error": error, "error_description": _UNQUOTABLE.sub("?", cause.message)[:500]}
        if scope:
            said["scope"] = _UNQUOTABLE.sub("?", scope)
        if scheme == "DPoP":
            said["algs"] = " ".join(DPOP_ALGORITHMS)
        said["resource_metadata"] = self._origin + self.metadata_path
        return Refused(cause, f"{scheme} " + ", ".join(f'{name}="{text}"' for name, text in said.items()))

    @contextmanager
    def _refusing(self, scheme: str, error: str) -> Iterator[None]:
        try:
            yield
        except FamaError as cause:
            raise self._refused(scheme, error, cause) from cause

    def _token(self, scheme: str, text: str, now: float) -> AccessToken:
        token = check_access_token(
            text, manifest=self._manifest, issuers=self._issuers, audience=self._resource, now=now
        )
        if scheme == "Bearer" and token.key_thumbprint is not None:
            raise FamaError("dpop_required", "the token is bound to a key: send it as DPoP, with a proof", status=401)
        if scheme == "DPoP" and token.key_thumbprint is None:
            raise FamaError("not_bound", "the token is bound to no key: send it as Bearer", status=401)
        if self._strict and not self._live and abs(now - self._changed) > STRICT_SECONDS:
            raise FamaError("no_stream", "this server does not hear of revocations now", status=503, retry_after=5)
        try:
            frontier = self._manifest.read_frontier(token.frontier)
        except FamaError as error:
            if error.code == "later_version":
                raise FamaError(error.code, error.message, status=503, retry_after=5) from error
            raise FamaError("token_claim", "the claim frontier is malformed", status=401) from error
        self._withdrawals.expect_known(token, frontier, self._manifest.newest.ends, now)
        return token

    def _proof(
        self, token: AccessToken, text: str, method: str, path: str, headers: list[tuple[str, str]], now: float
    ) -> DpopProof:
        found = _values(headers, "dpop")
        if len(found) != 1:
            raise FamaError("dpop_header", "want one DPoP header", status=401)
        # Only this server knows its own address: a host in the request line is the client's word.
        url = self._origin + _HOST.sub("", path)
        proof = check_dpop(found[0], method=method, url=url, token=text, now=now)
        if proof.key_thumbprint != token.key_thumbprint:
            raise FamaError("token_dpop", "the DPoP proof is of another key", status=401)
        return proof

    def _use(self, token: AccessToken, proof: DpopProof, now: float) -> None:
        name = f"{proof.key_thumbprint} {proof.id}".encode()
        try:
            self._proofs.use(token.identity, name, proof.ends, now)
        except FamaError as error:
            if error.code == "replayed":
                raise FamaError("used", "the DPoP proof was used before", status=401) from error
            message = "too many DPoP proofs are remembered: try again soon"
            raise FamaError("busy", message, status=error.status, retry_after=error.retry_after) from error

    def _hear(self, event: StreamEvent) -> bool:
        """Takes an event. Whether it could be read: if not, a newer manifest is needed."""
        try:
            if event.kind in ("open", "key", "access"):
                if not _EVENT_ID.fullmatch(event.id):
                    raise BrokenStream("an event has no id")
                if int(event.id.partition(".")[0]) > self._manifest.newest.number:
                    # It may have taken a token key away.
                    self._due = True
            if event.kind == "open":
                if event.fields.get("federation") != self._manifest.federation:
                    raise BrokenStream("the node is of another federation")
                if not self._stream.continues:
                    self._withdrawals.begin(self._manifest.read_frontier(event.id), self._clock())
                self._set_live(event.fields.get("fresh") is not False)
            elif event.kind == "freshness":
                # A node that does not hear the federation hears of no revocation.
                self._set_live(event.fields.get("fresh") is True)
            elif event.kind in ("key", "access"):
                self._withdrawals.hear(event.fields, self._manifest.newest.logs, self._clock())
            return True
        except (BrokenStream, FamaError) as error:
            # It is lost: the next connection must not continue behind it.
            self._stream.forget()
            if isinstance(error, FamaError) and error.code == "later_version":
                return False
            raise

    def _lost(self, error: Exception | None) -> float:
        _log.info("the node's stream is not followed: %s", error or "it ended")
        self._set_live(False)
        return self._stream.lost()

    def _set_live(self, live: bool) -> None:
        if live != self._live:
            self._live, self._changed = live, self._clock()
            if self._on_state:
                self._on_state(live)

    def _is_due(self) -> bool:
        """Whether it is time to ask for newer versions; if the node did not answer, soon again."""
        now = self._clock()
        is_old = self._due or abs(now - self._renewed) >= RENEWAL_SECONDS
        return is_old and abs(now - self._asked) >= RENEWAL_SECONDS_MIN

    def _may_ask(self) -> bool:
        now = self._clock()
        if abs(now - self._asked) < RENEWAL_SECONDS_MIN:
            return False
        self._asked, self._due = now, False
        return True

    def _take(self, response: Response) -> None:
        """Takes the newer versions of the node's chain, if they hold."""
        if response.status != 200:
            raise FamaError("bad_answer", f"the node's answer has status {response.status}")
        try:
            chain = response.body.decode()
        except UnicodeDecodeError as error:
            raise FamaError("bad_answer", "the node's answer is no text") from error
        try:
            self._manifest, self._renewed = self._manifest.extended(chain), self._asked
        except (ValueError, RecursionError) as error:
            raise FamaError("bad_answer", "the node's answer is no chain of manifests") from error


def _values(headers: list[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name]


def _not_renewed(error: FamaError) -> None:
    _log.warning("no newer manifest was taken: %s", error)


class ResourceServer(_Base):
    """Checks the tokens that come with requests. May be used from several threads.

    `start` and `close`, or a `with` statement, run a thread that keeps the manifest up to date and follows the stream
    of the node whose query listener is given by its URL or by a client. Until the node answers, and while it does not,
    the manifest that is held stays in use. The memory of DPoP proofs is one process's.
    """

    def __init__(self, node: str | Client, **options: Unpack[ResourceOptions]) -> None:
        self._own = isinstance(node, str)
        self._client = Client(node) if isinstance(node, str) else node
        super().__init__(self._client._core.query_url, **options)
        self._renewing = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="fama-resource-server").start()

    def close(self) -> None:
        """The thread ends with what the node sends next, at most `SILENCE_SECONDS` later."""
        self._stop.set()

    def check(
        self, method: str, path: str, headers: Headers, *, scope: str | None = None, min_karma: int | None = None
    ) -> AccessToken:
        """The token of a request, if it may do this.

        `path` is as the client sent it, percent-encoded, with the query or without; of a URL, the rest is ignored.
        `headers` are pairs, so that one that comes twice is seen. `scope` may be several words with spaces between
        them, all of which must be granted. Raises `Refused`.
        """
        headers = list(headers)
        try:
            return self._check(method, path, headers, scope, min_karma)
        except Refused as refused:
            if refused.code not in ("token_key", "later_version"):
                raise
        self._renew()
        return self._check(method, path, headers, scope, min_karma)

    def _renew(self) -> None:
        if not self._renewing.acquire(timeout=RENEWAL_WAIT_SECONDS):
            return
        try:
            if self._may_ask():
                self._take(self._client._send(self._chain))
        except FamaError as error:
            _not_renewed(error)
        finally:
            self._renewing.release()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._follow()
        finally:
            if self._own:
                self._client.close()

    def _follow(self) -> None:
        """Follows one stream to its end, and waits until the next is due."""
        if self._is_due():
            self._renew()
        lost: Exception | None = None
        timeout = httpx.Timeout(10, read=SILENCE_SECONDS)
        try:
            with self._client._http.stream(
                "GET", self._stream.url, headers=self._stream.headers, timeout=timeout
            ) as response:
                self._stream.connected(response.status_code, response.headers.get("content-type", ""))
                for chunk in response.iter_raw():
                    self._read(chunk)
                    if self._stop.is_set():
                        break
        except Exception as error:  # Whatever the node sends now: it may be honest the next time.
            lost = error
        finally:
            pause = self._lost(lost)
        self._stop.wait(pause)

    def _read(self, chunk: bytes) -> None:
        for event in self._stream.feed(chunk):
            if not self._hear(event):
                self._renew()
                if not self._hear(event):
                    raise BrokenStream("the node uses a version of the manifest that is not held here")
        if self._is_due():
            self._renew()


class AsyncResourceServer(_Base):
    """Checks the tokens that come with requests, in asyncio: see `ResourceServer`. `async with` runs its task."""

    def __init__(self, node: str | AsyncClient, **options: Unpack[ResourceOptions]) -> None:
        self._own = isinstance(node, str)
        self._client = AsyncClient(node) if isinstance(node, str) else node
        super().__init__(self._client._core.query_url, **options)
        self._renewing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._own:
            await self._client.close()

    async def check(
        self, method: str, path: str, headers: Headers, *, scope: str | None = None, min_karma: int | None = None
    ) -> AccessToken:
        headers = list(headers)
        try:
            return self._check(method, path, headers, scope, min_karma)
        except Refused as refused:
            if refused.code not in ("token_key", "later_version"):
                raise
        await self._renew()
        return self._check(method, path, headers, scope, min_karma)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(RENEWAL_WAIT_SECONDS):
                await self._renewing.acquire()
        except TimeoutError:
            return
        try:
            if self._may_ask():
                response = await self._client._send(self._chain)
                # In Python a long chain takes seconds to verify.
                await asyncio.to_thread(self._take, response)
        except FamaError as error:
            _not_renewed(error)
        finally:
            self._renewing.release()

    async def _run(self) -> None:
        while True:
            await self._follow()

    async def _follow(self) -> None:
        if self._is_due():
            await self._renew()
        lost: Exception | None = None
        timeout = httpx.Timeout(10, read=SILENCE_SECONDS)
        try:
            async with self._client._http.stream(
                "GET", self._stream.url, headers=self._stream.headers, timeout=timeout
            ) as response:
                self._stream.connected(response.status_code, response.headers.get("content-type", ""))
                async for chunk in response.aiter_raw():
                    await self._read(chunk)
        except Exception as error:  # Whatever the node sends now: it may be honest the next time.
            lost = error
        finally:
            pause = self._lost(lost)
        await asyncio.sleep(pause)

    async def _read(self, chunk: bytes) -> None:
        for event in self._stream.feed(chunk):
            if not self._hear(event):
                await self._renew()
                if not self._hear(event):
                    raise BrokenStream("the node uses a version of the manifest that is not held here")
        if self._is_due():
            await self._renew()
