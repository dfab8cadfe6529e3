"""What a run ran on: the machine and the versions; no names of hosts, people or paths."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from incident_rollback import __version__
from tests.sandbox.build import KUBERNETES


def describe(peers: dict[str, str]) -> dict[str, str]:
    """Return what a reader wants to know, in the order in which it is shown."""
    libraries = ("kopf", "kubernetes", "aiohttp", "httpx", "pydantic")
    return {
        "CPU": cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_gib(Path('/proc/meminfo').read_text(encoding='utf-8')):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Kubernetes": KUBERNETES,
        "Python": platform.python_version(),
        "incident-rollback": __version__,
        **{name: version(name) for name in libraries},
        **peers,
    }


def cpu_model(cpuinfo: str) -> str:
    """Return the model's name out of /proc/cpuinfo; some machines say none."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def memory_gib(meminfo: str) -> float:
    """Return the total out of /proc/meminfo, in GiB."""
    found = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) / 2**20 if found else 0.0


def version_of(argv: list[str], pattern: str) -> str:
    """Return what a program says its version is; `?` when it does not say."""
    said = subprocess.run(argv, check=False, capture_output=True, text=True)  # noqa: S603
    found = re.search(pattern, said.stdout + said.stderr)
    return found[1] if found else "?"
