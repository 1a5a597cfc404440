"""The one exception of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import SignedEvent


class FamaError(Exception):
    """A request that was refused or got no answer, or a login, a token or a manifest that is not valid.

    `code` is a stable word: the node's, or for what is checked here the word that the node would use. Only this
    package says `unreachable` (nothing was sent), `no_answer` (the node may have acted on the request),
    `answer_too_large`, `bad_answer`, `wrong_agent`, `replayed`, `busy` and `low_karma`, and what `Refused` lists.
    `status` is the HTTP status, for local checks the one that fits; `None` if there was no answer.
    `retry_after` is in seconds, `None` if the node did not say.
    `signed` is the event that could not be submitted. It may be submitted again: the same text counts once.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        signed: SignedEvent | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.signed = signed
