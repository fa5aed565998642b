"""What a sandbox looks like from the inside: run there once when a worker starts, under the system's Python. It prints
JSON and changes nothing; `probe.py` judges what it says.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
MORE_THAN_ENOUGH = 4096  # processes; the probe stops at the limit, long before


def attempt(what: str, *arguments: object) -> str:
    """How the kernel answers: "allowed", or the name of the error."""
    try:
        match what:
            case "open":
                os.close(os.open(*arguments))  # type: ignore[arg-type]
            case "socket":
                socket.socket(*arguments).close()  # type: ignore[arg-type]
            case "connect":
                with socket.socket() as one:
                    one.settimeout(1)
                    one.connect(arguments)
            case "unshare":
                if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
                    raise OSError(ctypes.get_errno(), "")
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "allowed"


def status() -> dict[str, str]:
    """The lines of /proc/self/status."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return {name: value.strip() for name, value in (line.split(":", 1) for line in file)}


def mounts() -> dict[str, list[str]]:
    """Each mount: its own options, then those of the file system."""
    found = {}
    with Path("/proc/self/mountinfo").open(encoding="ascii") as file:
        for line in file:
            fields, kind = line.split(), line.partition(" - ")[2].split()
            found[fields[4]] = [kind[0], *fields[5].split(","), *kind[2].split(",")]
    return found


def size(path: str) -> int:
    """Bytes of a mount."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def processes() -> int:
    """How many processes can be started beside each other."""
    readable, writable = os.pipe()
    children: list[int] = []
    try:
        while len(children) < MORE_THAN_ENOUGH:
            pid = os.fork()
            if pid == 0:
                os.close(writable)
                os.read(readable, 1)
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    os.close(writable)
    for pid in children:
        os.waitpid(pid, 0)
    return len(children)


def main() -> None:
    """Print everything."""
    with Path("/proc/self/cgroup").open(encoding="ascii") as file:
        groups = sorted({line.rstrip("\n").split(":", 2)[2] for line in file})
    facts = {
        "uid": os.getuid(),
        "status": {
            key: value for key, value in status().items() if key in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")
        },
        "environment": sorted(os.environ),  # noqa: TID251 it is the question
        "interfaces": [name for _, name in socket.if_nameindex()],
        "process1": attempt("open", "/proc/1/environ", os.O_RDONLY),
        "core_pattern": attempt("open", "/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "canary": attempt("open", sys.argv[1], os.O_RDONLY),
        "unshare": attempt("unshare"),
        "vsock": attempt("socket", 40, socket.SOCK_STREAM),
        "raw": attempt("socket", socket.AF_INET, socket.SOCK_RAW, 1),
        "abroad": attempt("connect", "192.0.2.1", 80),
        "groups": groups,
        "read_only": sorted(path for path, options in mounts().items() if "ro" in options),
        "writable": sorted(path for path, options in mounts().items() if "rw" in options[1:2]),
        "sizes": {path: size(path) for path in ("/workspace", "/tmp", "/dev/shm")},  # noqa: S108
        "file": resource.getrlimit(resource.RLIMIT_FSIZE)[1],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "processes": processes(),
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
