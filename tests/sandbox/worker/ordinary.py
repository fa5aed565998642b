"""How root runs our programs as an ordinary user: one that nobody is, and that can reach our Python and sources."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import arrowslit
from tests.sandbox.hosts import ORDINARY_UID


def as_an_ordinary_user(staging: Path) -> Sequence[str]:
    """A command that becomes the one behind it, as that user; nothing if we are no root.

    What it needs may lie in a home that is closed to others. So it sees, in a mount namespace of its own, in the place
    of that home a folder with nothing in it but what it needs. `staging` is a folder that it may use meanwhile.
    """
    if os.geteuid() != 0:
        return ()
    needed = {Path(sys.base_prefix), Path(sys.prefix), *(Path(each) for each in arrowslit.__path__)}
    script = "; ".join(("set -e", *_shown(sorted(needed), staging)))
    become = f"exec setpriv --reuid {ORDINARY_UID} --regid {ORDINARY_UID} --clear-groups --bounding-set -all"
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{script}; {become} "$@"', "sh")


def _shown(needed: Sequence[Path], staging: Path) -> Iterator[str]:
    """The steps: hold on to each folder, close the homes, and put the folders back."""
    closed = {each: home for each in needed if (home := _home(each)) is not None}
    held = {each: staging / str(number) for number, each in enumerate(closed)}
    for each, at in held.items():
        yield from (f"mkdir {shlex.quote(str(at))}", f"mount --bind {shlex.quote(str(each))} {shlex.quote(str(at))}")
    for home in sorted({*closed.values()}):
        yield f"mount -t tmpfs -o mode=755 none {shlex.quote(str(home))}"
    for each, at in held.items():
        yield f"mkdir -p {shlex.quote(str(each))}"
        yield f"mount --bind {shlex.quote(str(at))} {shlex.quote(str(each))}"


def _home(path: Path) -> Path | None:
    """The outermost folder above that others may not enter."""
    above = reversed(path.parents)
    return next((each for each in above if not each.stat().st_mode & stat.S_IXOTH), None)
