"""Become another program: as a user that may be another, and only for as long as the parent lives.

`python -I -S become.py UID GID PARENT PROGRAM [ARGUMENT…]`, with a whole path for PROGRAM. A process of its own,
because the bond to the parent (PR_SET_PDEATHSIG, prctl(2)) has to be tied after the fork and after the change of user,
which clears it. Standard library only, and everything is imported while we may still read it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
FAREWELL = signal.SIGINT  # to PostgreSQL its "fast shutdown": clients are cut off, nothing is lost; to ours their end


def main(arguments: list[str]) -> None:
    """Run the program in place of this one, in the same environment."""
    uid, gid, parent = (int(number) for number in arguments[:3])
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # elsewhere there is no such bond: the next start finds what was left
        if libc.prctl(PR_SET_PDEATHSIG, int(FAREWELL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:
            sys.exit("the parent is gone already")
    os.execv(arguments[3], arguments[3:])  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    main(sys.argv[1:])
