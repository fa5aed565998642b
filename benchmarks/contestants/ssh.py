"""`ssh -R`: what people use who need one port for one server. The daemon is our own, on loopback, with fresh keys."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.loads.door import Door
from benchmarks.machine.process import Failed, Program, find, free_port

PRIVSEP = Path("/run/sshd")  # a daemon of root's wants this empty folder, which Debian makes when it starts its own


def daemon(folder: Path, port: int) -> str:
    """PURE. Forwarding for one key, and nothing else."""
    return f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "user.pub"}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitTTY no
X11Forwarding no
AllowTcpForwarding remote
"""


def _missing() -> str | None:
    lacking = [program for program in ("ssh", "sshd", "ssh-keygen") if find(program) is None]
    return f"there is no {' and no '.join(lacking)} (Debian: openssh-client, openssh-server)" if lacking else None


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    folder = ground.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        _make_key(folder / name)
    port, entrance = free_port(), free_port()
    (folder / "sshd.conf").write_text(daemon(folder, port))
    sshd, ssh = find("sshd"), find("ssh")
    assert sshd is not None
    assert ssh is not None
    with (
        _privilege_separation(),
        Program(folder, [sshd, "-D", "-e", "-f", str(folder / "sshd.conf")]) as listener,
    ):
        listener.answers_at(port)
        with Program(folder, [ssh, *_options(folder), *_forward(ground, port, entrance)]) as client:
            client.answers_at(entrance)
            yield Door(entrance, processes={"sshd": listener.pid, "ssh": client.pid}, era=ground.era)


def _options(folder: Path) -> list[str]:
    known = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={folder / 'known'}", "LogLevel=ERROR", "BatchMode=yes"]
    only = ["IdentitiesOnly=yes", "IdentityAgent=none", "ExitOnForwardFailure=yes"]
    return [
        "-F",
        "none",
        "-N",
        *(word for each in (*known, *only) for word in ("-o", each)),
        "-i",
        str(folder / "user"),
    ]


def _forward(ground: Ground, port: int, entrance: int) -> list[str]:
    from_there = f"127.0.0.1:{entrance}:127.0.0.1:{ground.upstream}"
    return ["-R", from_there, "-p", str(ground.far(port)), f"{getpass.getuser()}@127.0.0.1"]


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "benchmarks", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"ssh-keygen: {done.stderr.strip()}")


@contextmanager
def _privilege_separation() -> Iterator[None]:
    """The folder that a daemon of root's asks for, while it is needed."""
    if os.geteuid() != 0 or PRIVSEP.exists():
        yield
        return
    PRIVSEP.mkdir(mode=0o755)
    try:
        yield
    finally:
        with suppress(OSError):  # somebody else uses it by now
            PRIVSEP.rmdir()


SSH = Contestant("ssh -R", _missing, _run)
