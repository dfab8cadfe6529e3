"""Free TCP ports on the loopback interface."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 15_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
RETURNED: set[int] = set()
"""What was returned by `free_port` in this process."""


def free_port() -> int:
    """
    Return a port nobody listens on, likely to stay free until it is used.

    It lies below the ephemeral range.  Asking the kernel for port 0 instead would hand out a port
    that outgoing connections may take while our server is down; clients that retry against a
    killed server have even been seen to connect to themselves that way.  None is returned twice,
    for whoever got it may not listen yet.
    """
    candidates = range(LOWEST, first_ephemeral_port())
    while candidates:
        port = random.choice(candidates)  # noqa: S311  Not a secret.
        if port not in RETURNED and is_free(port):
            RETURNED.add(port)
            return port
    return kernel_chosen_port()


def first_ephemeral_port() -> int:
    """Return where the kernel's own choice begins; 32768 where it cannot be read."""
    try:
        return int(EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except OSError:
        return 32_768


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Go and asyncio do; without it a port in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Say whether somebody accepts connections on this loopback port now."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def kernel_chosen_port() -> int:
    """Return a free port of the kernel's choice, where the ephemeral range leaves nothing else."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
