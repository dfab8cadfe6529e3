"""
The annotations that tell the fake kubelet how a pod shall behave; `stages.yaml` acts on them.

They belong into a pod template, so that a new revision can be bad while the old one is good.
Without any a pod is ready 0.3 s after it was scheduled.  Durations are Go's: `300ms`, `5s`, `2m`.
"""

from typing import Final

WAITING: Final = "simulate/waiting"
"""Never starts; the value is the container's waiting reason: ImagePullBackOff and the like."""

TERMINATED: Final = "simulate/terminated"
"""Dies again and again; the value is why: OOMKilled (exit code 137), Error or another word (1)."""

READY_AFTER: Final = "simulate/ready-after"
"""Runs at once, and is ready only after this duration: a slow start."""

CRASH_AFTER: Final = "simulate/crash-after"
"""Is ready, and after this duration crash-loops for good, with one restart."""

FLAP_EVERY: Final = "simulate/flap-every"
"""Is ready and not ready in turns of this duration, with one more restart each time."""

RESTARTS: Final = "simulate/restarts"
"""Is ready and stays so, with this many restarts behind it."""

STOP_AFTER: Final = "simulate/stop-after"
"""Once deleted, takes this duration to go away."""

BROKEN_IMAGE: Final = "nginx:latest"
"""Crash-loops whatever the annotations say: the story's bad release."""
