"""Verifies proofs of a Fama federation at native speed, without I/O and without a clock of its own.

Times are Unix time in whole seconds.
"""

from collections.abc import Sequence
from typing import Any, final

class FamaError(ValueError):
    """Something does not hold. Not the class of this name in `fama_client`: catch both where both are used."""

    code: str
    """A stable word, the same in all of Fama's software."""
    message: str
    """The reason, for people."""

def verify_signatures(signatures: Sequence[tuple[str, bytes, bytes]]) -> list[str | None]:
    """Verifies signatures, on all cores, in batches: of each the code why it does not hold, or `None`.

    Each is a key's text (`secp256k1:…` or `ed25519:…`), a message, and the signature in the ledger's form: 65 bytes of
    r, s and the recovery id, or 64 of Ed25519.
    """

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
    def verify_entries(self, entries: Sequence[bytes]) -> list[dict[str, Any]]:
        """Decodes entries of a log and verifies their signatures, on all cores, in batches. State is not looked at.

        Of each entry that holds `time`, in milliseconds, and of an event `event` (its id), `text` (what was signed) and
        `signer`; else `adopts`, a version of the manifest, or `state_root`. Of one that does not, only `error`, a code.
        """
    def verify_event(self, proof: str, *, about: str) -> dict[str, Any]:
        """What a proof of inclusion or a receipt shows, with the entry in it: as `fama verify --json` prints it.

        `about` is the event's id. Without `final`, only the log's owner signed for it so far.
        """
