"""Polling with an error that says what was seen.  There are no fixed sleeps in the sandbox."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.sandbox.errors import NotReadyError

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
"""Long on purpose: it is only ever used up by a failure, and a busy machine must not cause one."""


def wait_for(
    probe: Callable[[], T | None],
    what: str,
    *,
    timeout_seconds: float = PATIENCE_SECONDS,
    every_seconds: float = 0.05,
    seen: Callable[[], object] | None = None,
) -> T:
    """
    Call `probe` until what it returns is true, and return that.

    `what` completes the sentence "waited 120 s for …".  `seen` says what to show when that never
    happened; without it, the last result of `probe` is shown.  Errors of `probe` are not caught.

    Raises NotReadyError after `timeout_seconds`, but never without a last look.
    """
    give_up_at = time.monotonic() + timeout_seconds
    while True:
        last_look = time.monotonic() >= give_up_at
        result = probe()
        if result:
            return result
        if last_look:
            shown = seen() if seen is not None else result
            raise NotReadyError(f"waited {timeout_seconds:g} s for {what}; last seen: {shown}")
        time.sleep(every_seconds)
