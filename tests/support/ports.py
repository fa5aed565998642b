"""Ports that a test names before anybody listens on them, or again after somebody has."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of loopback where nothing listens. No outgoing connection is given it meanwhile: theirs are higher.

    Among thousands of connections one would be, once in a while; and who dials such a port again and again
    while nobody listens at last reaches itself.
    """
    while True:
        port = random.SystemRandom().randrange(LOWEST, _first_of_connections())
        with suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port


def _first_of_connections() -> int:
    """The lowest port that the kernel gives to outgoing connections."""
    return int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
