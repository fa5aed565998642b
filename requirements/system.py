"""See that programs are there which no Python package brings; as root they are installed from Debian's packages.

The Makefile runs it with the machine's Python, so it uses the standard library only:

    python3 requirements/system.py bwrap curl git

Whoever is not root is told what to install, and it goes on: what needs them says so. A package may bring a service of
the system with it, which nobody asked for: it is not started, and does not start with the machine either.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    "bwrap": "bubblewrap",
    "curl": "curl",
    "git": "git",
    "nginx": "nginx-light",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "wrk": "wrk",
}
SERVICES = {"nginx-light": "nginx", "openssh-server": "ssh"}
POLICY = Path("/usr/sbin/policy-rc.d")  # what Debian's packages ask whether they may start a service; 101 is no
PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # daemons are not on everybody's PATH
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
    """Those that are not here."""
    return [each for each in programs if shutil.which(each, path=PLACES) is None]


def install(packages: list[str]) -> str | None:
    """Let apt-get install them."""
    print(f"installing {' '.join(packages)} with apt-get", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with without_services(packages):
        for words in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
            done = subprocess.run(("apt-get", *words), env=quiet, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-8:])
                return f"arrowslit: apt-get could not install {' '.join(packages)}:\n{said}"
    return None


@contextmanager
def without_services(packages: list[str]) -> Iterator[None]:
    """While packages are installed, their services are not started; afterwards they are taken out of the start."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink()
    for service in [SERVICES[each] for each in packages if each in SERVICES]:
        if systemctl := shutil.which("systemctl"):
            subprocess.run([systemctl, "disable", "--quiet", service], capture_output=True, check=False)


def tell(packages: list[str]) -> None:
    """Say what to do."""
    print(f"arrowslit: what is missing here: {' '.join(packages)}", file=sys.stderr)
    print(f"  on Debian and Ubuntu, as root: apt-get install {' '.join(packages)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
