"""
The error tree: the branch says whether to retry, the leaf says what happened.

Expected outcomes are values, not errors; these are for what stops a turn.
"""

from typing import ClassVar


class RollbackError(Exception):
    """Anything this package raises on purpose; the message is for the person on call."""


class SettingsError(RollbackError):
    """A setting is missing or wrong; the message names the variable.  Ends the process at start."""


class IllegalTransitionError(RollbackError):
    """A bug: a decision asked for a move that is not legal, or for a look that tells nothing."""


class TransientError(RollbackError):
    """The next turn may succeed; `retry_after` is the wait before it, in seconds."""

    def __init__(self, message: str, *, retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(TransientError):
    """The other side did not answer, or answered 5xx.  A write may or may not have happened."""


class ThrottledError(TransientError):
    """The other side said 429; `retry_after` is what it asked for."""


class ConflictError(TransientError):
    """Somebody wrote the object since it was read (409): read it again and decide again."""


class StaleReadError(TransientError):
    """A guarded patch met another object than the one judged (a bare 422): nothing was changed."""


class TerminalError(RollbackError):
    """No retry can help.  `reason` is the condition's reason and the metric's label."""

    reason: ClassVar[str]


class ForbiddenError(TerminalError):
    """The API server said 403.  May be mended by an admin, so callers wait for it."""

    reason = "PermissionMissing"


class RejectedError(TerminalError):
    """The API server or an admission policy refused the patch itself, with causes."""

    reason = "Rejected"


class InvalidRequestError(TerminalError):
    """The API server refused an object that we made; the message is the server's."""

    reason = "Rejected"


class TimelineRefusedError(RollbackError):
    """
    FireHydrant answered, and the answer is no.

    `reason` is one of the reasons of the condition Reported: KeyRefused (401), KeyForbidden
    (403), IncidentNotFound (404), NotAccepted (400, 409, 422).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
