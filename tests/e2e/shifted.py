"""
Run the controller or the bridge with a clock that is ahead of the API server's.

    python shifted.py controller | bridge

How far ahead, in seconds, says the environment variable of `AHEAD`; it belongs to this launcher,
the product knows nothing of it.  What is shown as the time moves, and ages with it; waits, which
are measured by the monotonic clock, do not.
"""

import os
import sys
from datetime import datetime, timedelta
from typing import Final

from incident_rollback.__main__ import serve
from incident_rollback.clients.clock import ApiClock
from incident_rollback.wiring import run_bridge, run_controller

AHEAD: Final = "E2E_CLOCK_AHEAD_SECONDS"
PROCESSES: Final = {"controller": run_controller, "bridge": run_bridge}


class ClockAhead(ApiClock):
    """The API server's clock, and so much more."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self._ahead = ahead

    def now(self) -> datetime:
        """Return a moment that is yet to come."""
        return super().now() + self._ahead


def main() -> None:
    """Run the process that is named by the first argument."""
    ahead = timedelta(seconds=float(os.environ[AHEAD]))
    serve(PROCESSES[sys.argv[1]], lambda: ClockAhead(ahead))


if __name__ == "__main__":
    main()
