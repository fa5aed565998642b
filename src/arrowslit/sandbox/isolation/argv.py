"""PURE: the command line of bubblewrap, from a description of what a sandbox holds.

Order is part of the meaning: what lies on a mount comes after the mount, and what is made read-only is so last. Every
target is made by bubblewrap in a mount namespace that no sandboxed code has seen, so none can be a planted symlink
(CVE-2026-87766).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from arrowslit.sandbox.isolation.isolation import WORKSPACE, Limits

RUNNER = "/run/arrowslit/runner.py"
UID = 1000  # inside; what it is outside, whoever starts bubblewrap decides


class Fd(IntEnum):
    """The open files that bubblewrap is started with, beside the standard three. All but CONTROL end there."""

    CONTROL = 3
    INFO = 4
    SECCOMP = 5
    RUNNER = 6
    PASSWD = 7
    GROUP = 8
    NSSWITCH = 9
    HOSTS = 10
    RESOLV = 11


FILES: Mapping[Fd, tuple[str, str]] = MappingProxyType(
    {
        Fd.PASSWD: (
            "/etc/passwd",
            f"root:x:0:0::/:/usr/sbin/nologin\nsandbox:x:{UID}:{UID}::{WORKSPACE}:/bin/bash\nnobody:x:65534:65534::/:\n",
        ),
        Fd.GROUP: ("/etc/group", f"root:x:0:\nsandbox:x:{UID}:\nnogroup:x:65534:\n"),
        Fd.NSSWITCH: ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
        Fd.HOSTS: ("/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
        Fd.RESOLV: ("/etc/resolv.conf", ""),  # nobody to ask: names are resolved by the proxy, outside
    }
)
"""Files made for the sandbox: where they are, what they hold."""

SHARED_ETC = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
"""What programs need of the system's /etc and anybody may read. Never /etc/ssl/private."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where programs come from. `trees` are folders of this machine that are shown read-only: (outside, inside);
    `links` are symlinks: (target, path).
    """

    bwrap: str
    python: str
    trees: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...] = ()


def bubblewrap(layout: Layout, limits: Limits, runner_arguments: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The whole command line. It refers to the open files of Fd by number and starts the runner as process 1."""
    return (
        layout.bwrap,
        *_walls(),
        *_system(layout),
        *_etc(),
        *_devices(),
        *_room(limits),
        *_start(layout),
        *runner_arguments,
    )


def _walls() -> Iterator[str]:
    yield from (
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
    )
    yield from ("--disable-userns", "--cap-drop", "ALL", "--uid", str(UID), "--gid", str(UID))
    yield from ("--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv")
    yield from ("--info-fd", str(Fd.INFO), "--seccomp", str(Fd.SECCOMP))


def _system(layout: Layout) -> Iterator[str]:
    for outside, inside in layout.trees:
        yield from ("--ro-bind", outside, inside)
    for target, path in layout.links:
        yield from ("--symlink", target, path)


def _etc() -> Iterator[str]:
    for folder in ("/etc", "/etc/ssl", "/run", "/run/arrowslit"):
        yield from ("--perms", "0755", "--dir", folder)
    for path in SHARED_ETC:
        yield from ("--ro-bind-try", path, path)
    for fd, (path, _) in FILES.items():
        yield from ("--perms", "0444", "--ro-bind-data", str(fd), path)


def _devices() -> Iterator[str]:
    # /proc/sys again: with a kernel uid 0 it would be open for writing there, and core_pattern is a way out
    yield from ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev")


def _room(limits: Limits) -> Iterator[str]:
    """Every place that can be written, of a fixed size and in memory: it ends with the sandbox, however that ends."""
    for mode, size, path in (
        ("1777", limits.tmp, "/tmp"),  # noqa: S108 the sandbox's own
        ("1777", limits.shm, "/dev/shm"),  # noqa: S108
        ("0700", limits.workspace, WORKSPACE),
    ):
        yield from ("--perms", mode, "--size", str(size), "--tmpfs", path)


def _start(layout: Layout) -> Iterator[str]:
    yield from ("--perms", "0444", "--ro-bind-data", str(Fd.RUNNER), RUNNER)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/")  # /dev is a tmpfs too, and without a size
    yield from ("--chdir", WORKSPACE, "--as-pid-1", "--", layout.python, "-I", "-S", "-B", RUNNER)
