"""Verifies proofs of a Fama federation at native speed, without I/O and without a clock of its own.

Times are Unix time in seconds. A refusal is a `FamaError` whose `args` are a code, which is the same in all of Fama's
software, and the reason for people.
"""

from typing import Any, final

class FamaError(ValueError): ...

@final
class Federation:
    """A federation, by its manifest: the genesis, or a chain of versions as `GET /api/federation/manifests` answers it.

    Anybody can sign a genesis: take it, or compare `id`, from somebody you trust.
    """

    def __new__(cls, manifest: str) -> Federation: ...
    @property
    def id(self) -> str:
        """The federation's id: 64 hex digits."""
    @property
    def version(self) -> int:
        """The version of the manifest, from 1."""
    def verify_profile(self, proof: str, *, about: str, max_age: int, missing: int, now: int) -> dict[str, Any]:
        """What a profile proof shows: the object that `fama verify --json` prints.

        `about` is the question: a handle, an id or a DID, with ` granted by ` and issuers' ids behind it where grants
        are asked for. A log whose certificate is older than `max_age` seconds counts as left out, and at most
        `missing` logs may be. Where a log that is left out could hide a revocation, `agent.status` is
        `not_known_revoked`. The member `agent` is there if `found` is true: else the proof shows that there is none.
        """
    def verify_event(self, proof: str, *, about: str) -> dict[str, Any]:
        """What a proof of inclusion or a receipt shows, with the entry in it: as `fama verify --json` prints it.

        `about` is the event's id. Without `final`, only the log's owner signed for it so far.
        """
