"""The client for programs with threads, and the one for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

import httpx

from .cache import Profile, ProfileCache, UsedSignatures
from .core import ANSWER_BYTES_MAX, Core, Json, Request, Response, Steps
from .errors import FamaError
from .events import SignedEvent
from .keys import PublicKey, Signer
from .login import Login, Verified
from .stream import SILENCE_SECONDS, BrokenStream, Follow, StreamEvent

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
"""How long a request may take as a whole: `wait_final` alone may take 20 seconds."""


def _headers(request: Request) -> dict[str, str]:
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if request.body is not None:
        headers["content-type"] = "application/json"
    return headers


def _failed(request: Request, error: Exception) -> FamaError:
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol)
    code = "unreachable" if unsent else "no_answer"
    return FamaError(code, f"{request.method} {request.url}: {error or type(error).__name__}", signed=request.signed)


def _answer_too_large(request: Request) -> FamaError:
    message = f"the answer has more than {ANSWER_BYTES_MAX} bytes, or is compressed"
    return FamaError("answer_too_large", message, signed=request.signed)


def _begins(request: Request, response: httpx.Response) -> None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _answer_too_large(request)


def _response(response: httpx.Response, body: bytearray) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, bytes(body))


class Options(TypedDict, total=False):
    """What a client may be told. `submit_url` is a submit listener's and `federation` the id of the federation: both
    only for what is signed. `timeout` is for each request as a whole, in seconds. `cache` and `used` may be shared by
    clients; `clock` gives Unix time in seconds."""

    submit_url: str
    federation: str
    cache: ProfileCache
    used: UsedSignatures
    timeout: float
    clock: Callable[[], float]


class _Base:
    """Address, federation, cache and memory of used signatures, which both clients have."""

    def __init__(self, query_url: str, **options: Unpack[Options]) -> None:
        self.cache = options.get("cache") or ProfileCache(time.monotonic)
        self._timeout = options.get("timeout", TIMEOUT_SECONDS)
        self._core = Core(
            query_url,
            submit_url=options.get("submit_url"),
            federation=options.get("federation"),
            cache=self.cache,
            used=options.get("used") or UsedSignatures(),
            clock=options.get("clock", time.time),
        )


class Client(_Base):
    """Asks a node. May be used from several threads. All methods raise `FamaError`."""

    def __init__(self, query_url: str, *, http: httpx.Client | None = None, **options: Unpack[Options]) -> None:
        super().__init__(query_url, **options)
        self._http = http or httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                try:
                    response = self._send(request)
                except FamaError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, request: Request) -> Response:
        deadline, body = time.monotonic() + self._timeout, bytearray()
        try:
            with self._http.stream(
                request.method, request.url, content=request.body, headers=_headers(request), timeout=self._timeout
            ) as response:
                _begins(request, response)
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise _answer_too_large(request)
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the answer takes too long")
                return _response(response, body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failed(request, error) from error

    def get_agent(self, agent: str) -> Profile:
        """The profile of a `name@home`, an id, a DID, or a bare name of the node's own namespace."""
        return self._run(self._core.get_agent(agent))

    def verify(self, login: Login, *, min_karma: int | None = None) -> Verified:
        """Verifies a login here, with a profile of the node or of the cache, and uses its signature up.

        The service must also check that `login.message` is a challenge that it gave out.
        """
        return self._run(self._core.verify(login, min_karma=min_karma))

    def verify_remote(self, login: Login) -> Verified:
        """Has the node verify a login. It does not notice one that is sent twice."""
        return self._run(self._core.verify_remote(login))

    def get_leaderboard(self, limit: int | None = None, cursor: str | None = None) -> Json:
        return self._run(self._core.get_leaderboard(limit, cursor))

    def get_status(self) -> Json:
        return self._run(self._core.get_status())

    def submit(self, signed: SignedEvent, *, wait_final: bool = False) -> Json:
        """Submits an event, such as `FamaError.signed`; the receipt."""
        return self._run(self._core.submit(signed, wait_final=wait_final))

    def register(
        self, name: str, home: str, signer: Signer, *, next_key: PublicKey | None = None, bio: str | None = None,
        invite: str | None = None, wait_final: bool = False,
    ) -> Json:  # fmt: skip
        """Registers `name@home` with the signer's key, and commits to the key that replaces it; the receipt."""
        steps = self._core.register(
            name, home, signer, next_key=next_key, bio=bio, invite=invite, wait_final=wait_final
        )
        return self._run(steps)

    def rotate_key(
        self, agent: str, new: Signer, *, current: Signer | None = None, next_key: PublicKey | None = None,
        wait_final: bool = False,
    ) -> Json:  # fmt: skip
        """Replaces an agent's key. `current` is needed only where it did not commit to `new`."""
        steps = self._core.rotate_key(agent, new, current=current, next_key=next_key, wait_final=wait_final)
        return self._run(steps)

    def revoke_key(
        self, agent: str, signer: Signer, *, reason: str = "unspecified", wait_final: bool = False
    ) -> Json:
        """Revokes an agent's key for good. The signer is that key, or the one that it committed to. `reason` is
        `key_compromised`, `superseded`, `retired` or `unspecified`."""
        return self._run(self._core.revoke_key(agent, signer, reason=reason, wait_final=wait_final))

    def attest_karma(
        self, agent: str, delta: int, issuer: str, signer: Signer, *, context: str | None = None,
        reason: str | None = None, ref: str | None = None, wait_final: bool = False,
    ) -> Json:  # fmt: skip
        """Gives karma, or takes some. Handles are looked up at the node: name agents by id where it is not trusted."""
        steps = self._core.attest_karma(
            agent, delta, issuer, signer, context=context, reason=reason, ref=ref, wait_final=wait_final
        )
        return self._run(steps)

    def follow(
        self, stop: threading.Event, *, agents: tuple[str, ...] = (), seen: Callable[[StreamEvent], None] | None = None
    ) -> None:
        """Follows the node's stream until `stop` is set, so that changed profiles are asked for again at once.

        Blocks: run it in a thread. Ends at most `SILENCE_SECONDS` after `stop`. `seen` is called with each event.
        """
        follow = Follow(self._core.query_url, self.cache, agents=agents)
        timeout = httpx.Timeout(10, read=SILENCE_SECONDS)
        while not stop.is_set():
            try:
                with self._http.stream("GET", follow.url, headers=follow.headers, timeout=timeout) as response:
                    follow.connected(response.status_code, response.headers.get("content-type", ""))
                    for chunk in response.iter_raw():
                        for event in follow.feed(chunk):
                            if seen:
                                seen(event)
                        if stop.is_set():
                            break
            except (httpx.HTTPError, BrokenStream):
                pass  # connected again below; meanwhile the cache counts as not followed
            finally:
                pause = follow.lost()
            stop.wait(pause)


class AsyncClient(_Base):
    """Asks a node, in asyncio. Its methods are those of `Client`."""

    def __init__(self, query_url: str, *, http: httpx.AsyncClient | None = None, **options: Unpack[Options]) -> None:
        super().__init__(query_url, **options)
        self._http = http or httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                try:
                    response = await self._send(request)
                except FamaError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, request: Request) -> Response:
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    request.method, request.url, content=request.body, headers=_headers(request), timeout=self._timeout
                ) as response,
            ):
                _begins(request, response)
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise _answer_too_large(request)
                return _response(response, body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise _failed(request, error) from error

    async def get_agent(self, agent: str) -> Profile:
        return await self._run(self._core.get_agent(agent))

    async def verify(self, login: Login, *, min_karma: int | None = None) -> Verified:
        return await self._run(self._core.verify(login, min_karma=min_karma))

    async def verify_remote(self, login: Login) -> Verified:
        return await self._run(self._core.verify_remote(login))

    async def get_leaderboard(self, limit: int | None = None, cursor: str | None = None) -> Json:
        return await self._run(self._core.get_leaderboard(limit, cursor))

    async def get_status(self) -> Json:
        return await self._run(self._core.get_status())

    async def submit(self, signed: SignedEvent, *, wait_final: bool = False) -> Json:
        return await self._run(self._core.submit(signed, wait_final=wait_final))

    async def register(
        self, name: str, home: str, signer: Signer, *, next_key: PublicKey | None = None, bio: str | None = None,
        invite: str | None = None, wait_final: bool = False,
    ) -> Json:  # fmt: skip
        steps = self._core.register(
            name, home, signer, next_key=next_key, bio=bio, invite=invite, wait_final=wait_final
        )
        return await self._run(steps)

    async def rotate_key(
        self, agent: str, new: Signer, *, current: Signer | None = None, next_key: PublicKey | None = None,
        wait_final: bool = False,
    ) -> Json:  # fmt: skip
        steps = self._core.rotate_key(agent, new, current=current, next_key=next_key, wait_final=wait_final)
        return await self._run(steps)

    async def revoke_key(
        self, agent: str, signer: Signer, *, reason: str = "unspecified", wait_final: bool = False
    ) -> Json:
        return await self._run(self._core.revoke_key(agent, signer, reason=reason, wait_final=wait_final))

    async def attest_karma(
        self, agent: str, delta: int, issuer: str, signer: Signer, *, context: str | None = None,
        reason: str | None = None, ref: str | None = None, wait_final: bool = False,
    ) -> Json:  # fmt: skip
        steps = self._core.attest_karma(
            agent, delta, issuer, signer, context=context, reason=reason, ref=ref, wait_final=wait_final
        )
        return await self._run(steps)

    async def follow(
        self, *, agents: tuple[str, ...] = (), seen: Callable[[StreamEvent], None] | None = None
    ) -> None:
        """Follows the node's stream until the task is cancelled: see `Client.follow`."""
        follow = Follow(self._core.query_url, self.cache, agents=agents)
        timeout = httpx.Timeout(10, read=SILENCE_SECONDS)
        while True:
            try:
                async with self._http.stream("GET", follow.url, headers=follow.headers, timeout=timeout) as response:
                    follow.connected(response.status_code, response.headers.get("content-type", ""))
                    async for chunk in response.aiter_raw():
                        for event in follow.feed(chunk):
                            if seen:
                                seen(event)
            except (httpx.HTTPError, BrokenStream):
                pass  # connected again below; meanwhile the cache counts as not followed
            finally:
                pause = follow.lost()
            await asyncio.sleep(pause)
