"""The probe: a sandbox is asked what it looks like from the inside, and the answers are held against the promises."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from arrowslit.errors import Error
from arrowslit.sandbox.isolation import cgroups, inside, missing
from arrowslit.sandbox.isolation.isolation import BASE_ENVIRONMENT, WORKSPACE, Command, Ended, Feature, Limits, Sandbox
from arrowslit.sandbox.isolation.missing import Missing

TIME = 20.0  # seconds; it takes a tenth of one, and starts as many processes as a session may have
SCRIPT = Path(inside.__file__).read_bytes()
ROOM = (WORKSPACE, "/tmp", "/dev/shm")  # noqa: S108 the sandbox's own
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts", "console"))

CANARY = ".canary"  # how the name of a file ends that a sandbox must not see

Facts = Mapping[str, Any]

PROMISES: Mapping[str, tuple[str, Callable[[Facts], bool]]] = {
    "uid": ("runs as an unprivileged user", lambda facts: facts["uid"] != 0),
    "capabilities": (
        "has no capabilities and can gain none",
        lambda facts: (
            {facts["status"]["CapBnd"], facts["status"]["CapEff"]} == {"0" * 16}
            and facts["status"]["NoNewPrivs"] == "1"
        ),
    ),
    "system calls": (
        "runs under the filter of system calls",
        lambda facts: facts["status"]["Seccomp"] == "2" and "allowed" not in (facts["vsock"], facts["raw"]),
    ),
    "user namespaces off inside": ("cannot make namespaces", lambda facts: facts["unshare"] != "allowed"),
    "network": (
        "has no network but its own loopback",
        lambda facts: facts["interfaces"] == ["lo"] and facts["abroad"] != "allowed",
    ),
    "process 1": ("cannot look into process 1", lambda facts: facts["process1"] != "allowed"),
    "kernel settings": ("cannot write core_pattern", lambda facts: facts["core_pattern"] != "allowed"),
    "host files": ("does not see this machine's files", lambda facts: facts["canary"] != "allowed"),
    "environment": (
        "does not see the worker's environment",
        lambda facts: set(facts["environment"]) <= {*BASE_ENVIRONMENT, "PWD", "LC_CTYPE"},
    ),
    "cgroup namespace": ("does not see where its cgroups are", lambda facts: facts["groups"] == ["/"]),
    "system read-only": (
        "can write nowhere but in its own room",
        lambda facts: (
            {"/", "/usr", "/dev", "/proc/sys"} <= set(facts["read_only"])
            and set(facts["writable"]) <= {"/proc", *ROOM, *DEVICES}
        ),
    ),
}
"""By name: what a sandbox does, and whether the facts say so. None of these can be a best effort."""

PROVED = tuple(Feature(name, sentence) for name, (sentence, _) in PROMISES.items())


async def ask(sandbox: Sandbox) -> Facts:
    """What a sandbox looks like from the inside. Raises Error `sandbox_unavailable` if it cannot say."""
    with tempfile.NamedTemporaryFile(prefix=f"{cgroups.name_of(0)}.", suffix=CANARY) as canary:
        Path(canary.name).chmod(0o644)
        command = Command(argv=("python3", "-I", "-S", "-", canary.name), stdin=SCRIPT, timeout=TIME)
        said, complaints, end = b"", b"", None
        async for each in sandbox.run(command):
            if isinstance(each, Ended):
                end = each
            elif each.stream == "stdout":
                said += each.data
            else:
                complaints += each.data
    try:
        facts: Facts = json.loads(said)
    except ValueError:
        raise _silent(end, complaints) from None
    return facts


def sweep() -> None:
    """Remove the canaries of workers that were killed while they looked."""
    for path in Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}*{CANARY}"):
        if not cgroups.owner_lives(path.name.partition(".")[0]):
            with suppress(OSError):  # of another user, who will find it too
                path.unlink()


def judge(facts: Facts, limits: Limits) -> list[Missing]:
    """What of the promises and the limits the facts do not bear out. PURE."""
    lacking = [
        Missing(name, f"a sandbox does not keep its promise: it {sentence}")
        for name, (sentence, kept) in PROMISES.items()
        if not kept(facts)
    ]
    if facts["processes"] > limits.pids:
        lacking.append(Missing("pids", f"{facts['processes']} processes could be started, {limits.pids} are allowed"))
    sizes = {WORKSPACE: limits.workspace, "/tmp": limits.tmp, "/dev/shm": limits.shm}  # noqa: S108
    for path, size in facts["sizes"].items():
        if size > sizes[path] + 4096 * 16:
            lacking.append(Missing("disk", f"{path} holds {size} bytes, {sizes[path]} are allowed"))
    return lacking


def _silent(end: Ended | None, complaints: bytes) -> Error:
    last = complaints.decode(errors="backslashreplace").strip().splitlines()[-1:] or [f"it ended: {end}"]
    return missing.error([Missing("probe", f"the probe could not look around inside: {last[0]}")])
