"""What a verifier remembers: profiles for a while, and signatures as long as their timestamps are accepted.

All of it may be used from several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .errors import FamaError

Profile = dict[str, Any]
"""A profile as `GET /api/agent/{x}` answers it."""

PROFILES_MAX = 10_000
DROPS_MAX = 1_024
USED_MAX = 65_536
USED_PER_AGENT_MAX = 64


class ProfileCache:
    """At most `profiles_max` profiles by the name that was asked for; the one that was unused longest goes first.

    A profile is fresh for `max_age` seconds, and for `followed_age` seconds while the stream of a node says at once
    what changes. If no node answers, one of up to `offline_age` seconds is used: that is how long a revocation can
    stay unknown.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_age: float = 10.0,
        followed_age: float = 300.0,
        offline_age: float = 300.0,
        profiles_max: int = PROFILES_MAX,
    ) -> None:
        self._clock = clock
        self._max_age = max_age
        self._followed_age = followed_age
        self._offline_age = offline_age
        self._profiles_max = profiles_max
        self._lock = threading.Lock()
        self._profiles: OrderedDict[str, tuple[float, Profile]] = OrderedDict()
        self._names: dict[str, set[str]] = {}
        self._followed = False
        self._drops: OrderedDict[str, int] = OrderedDict()
        self._now = 0
        self._forgotten = 0

    def fresh(self, name: str) -> tuple[Profile, float] | None:
        """The profile and its age in seconds, if it is still fresh."""
        with self._lock:
            return self._get(name, self._followed_age if self._followed else self._max_age)

    def offline(self, name: str) -> Profile | None:
        """The profile if it may be used while no node answers."""
        with self._lock:
            found = self._get(name, self._offline_age)
        return found[0] if found else None

    def _get(self, name: str, age_max: float) -> tuple[Profile, float] | None:
        if name not in self._profiles:
            return None
        since, profile = self._profiles[name]
        age = self._clock() - since
        if age > age_max:
            return None
        self._profiles.move_to_end(name)
        return profile, age

    def begin(self) -> tuple[int, float]:
        """To be called before a profile is asked for, and given to `put`."""
        with self._lock:
            return self._now, self._clock()

    def put(self, name: str, profile: Profile, begun: tuple[int, float]) -> None:
        """Keeps a profile, unless its agent was dropped since `begun`: the answer may be from before that."""
        agent = profile["identity"]["agent_id"]
        with self._lock:
            if begun[0] < self._forgotten or begun[0] < self._drops.get(agent, 0):
                return
            self._remove(name)
            self._profiles[name] = (begun[1], profile)
            self._names.setdefault(agent, set()).add(name)
            while len(self._profiles) > self._profiles_max:
                self._remove(next(iter(self._profiles)))

    def _remove(self, name: str) -> None:
        entry = self._profiles.pop(name, None)
        if entry:
            agent = entry[1]["identity"]["agent_id"]
            self._names[agent].discard(name)
            if not self._names[agent]:
                del self._names[agent]

    def drop(self, agent_id: str) -> None:
        """Forgets an agent under all its names."""
        with self._lock:
            self._now += 1
            self._drops[agent_id] = self._now
            self._drops.move_to_end(agent_id)
            while len(self._drops) > DROPS_MAX:
                self._forgotten = self._drops.popitem(last=False)[1]
            for name in list(self._names.get(agent_id, ())):
                self._remove(name)

    def follow(self, followed: bool) -> None:
        """Whether a stream is connected. Forgets everything when one is: it may have changed unheard before."""
        with self._lock:
            if followed:
                self._now += 1
                self._forgotten = self._now
                self._profiles.clear()
                self._names.clear()
            self._followed = followed


class UsedSignatures:
    """Signatures of logins that were accepted, each until its timestamp is no longer accepted anyway.

    Nothing is forgotten earlier to make place: above `per_agent_max` of one agent or `used_max` of all, logins are
    refused.
    """

    def __init__(self, *, used_max: int = USED_MAX, per_agent_max: int = USED_PER_AGENT_MAX) -> None:
        self._used_max = used_max
        self._per_agent_max = per_agent_max
        self._lock = threading.Lock()
        self._agents: dict[str, dict[bytes, float]] = {}
        self._count = 0
        self._swept = 0.0

    def use(self, agent_id: str, signature: bytes, until: float, now: float) -> None:
        """Remembers a signature up to the Unix time `until`.

        Raises `FamaError`: `replayed` (401) if it was used before; `rate_limited` (429) or `busy` (503) if there is
        no place for it.
        """
        with self._lock:
            if now - self._swept >= 1:
                self._sweep(now)
            used = self._agents.get(agent_id, {})
            if signature in used:
                raise FamaError("replayed", "this signature was used before", status=401)
            if len(used) >= self._per_agent_max:
                raise FamaError("rate_limited", "too many logins of one agent", status=429, retry_after=60)
            if self._count >= self._used_max:
                raise FamaError("busy", "too many logins", status=503, retry_after=10)
            self._agents.setdefault(agent_id, {})[signature] = until
            self._count += 1

    def _sweep(self, now: float) -> None:
        self._swept = now
        for agent_id, used in list(self._agents.items()):
            for signature in [signature for signature, until in used.items() if until < now]:
                del used[signature]
                self._count -= 1
            if not used:
                del self._agents[agent_id]
