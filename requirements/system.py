"""See that programs are there which no Python package brings; as root they are installed from Debian's packages.

The Makefile runs it with the machine's Python, so it uses the standard library only:

    python3 requirements/system.py bwrap curl git

Whoever is not root is told what to install, and it goes on: what needs them says so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {"bwrap": "bubblewrap", "curl": "curl", "git": "git"}
LOCK = Path(__file__).resolve().parent.parent / ".cache" / "system.lock"


def main(programs: list[str]) -> str | None:
    """Returns what went wrong, as text, or None."""
    if unknown := [each for each in programs if each not in PACKAGES]:
        return f"usage: system.py [{'|'.join(PACKAGES)}]..., and not {' '.join(unknown)}"
    if not missing(programs):
        return None
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `make demo` and `make test` take turns
        packages = [PACKAGES[each] for each in missing(programs)]
        if not packages:
            return None
        if os.geteuid() == 0 and shutil.which("apt-get"):
            return install(packages)
        tell(packages)
        return None


def missing(programs: list[str]) -> list[str]:
    """Those that are not on the PATH."""
    return [each for each in programs if shutil.which(each) is None]


def install(packages: list[str]) -> str | None:
    """Let apt-get install them."""
    print(f"installing {' '.join(packages)} with apt-get", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        done = subprocess.run(("apt-get", *words), env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-8:])
            return f"arrowslit: apt-get could not install {' '.join(packages)}:\n{said}"
    return None


def tell(packages: list[str]) -> None:
    """Say what to do."""
    print(f"arrowslit: what is missing here: {' '.join(packages)}", file=sys.stderr)
    print(f"  on Debian and Ubuntu, as root: apt-get install {' '.join(packages)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
