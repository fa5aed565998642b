from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arrowslit.sandbox.isolation.isolation import Limits
from arrowslit.sandbox.isolation.probe import PROMISES, judge

LIMITS = Limits()
GOOD: dict[str, Any] = {
    "uid": 1000,
    "status": {"CapBnd": "0" * 16, "CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"},
    "environment": ["HOME", "LANG", "PATH", "TMPDIR", "USER"],
    "interfaces": ["lo"],
    "process1": "Permission denied",
    "core_pattern": "Read-only file system",
    "canary": "No such file or directory",
    "unshare": "Operation not permitted",
    "vsock": "Address family not supported by protocol",
    "raw": "Operation not permitted",
    "abroad": "Network is unreachable",
    "groups": ["/"],
    "read_only": ["/", "/dev", "/etc/hosts", "/proc/sys", "/usr"],
    "writable": ["/dev/null", "/dev/pts", "/dev/shm", "/proc", "/tmp", "/workspace"],
    "sizes": {"/workspace": LIMITS.workspace, "/tmp": LIMITS.tmp, "/dev/shm": LIMITS.shm},
    "processes": LIMITS.pids,
}


def test_a_good_sandbox_lacks_nothing() -> None:
    assert judge(GOOD, LIMITS) == []


@pytest.mark.parametrize(
    ("bad", "feature"),
    [
        ({"uid": 0}, "uid"),
        ({"status": GOOD["status"] | {"CapBnd": "000001ffffffffff"}}, "capabilities"),
        ({"status": GOOD["status"] | {"CapEff": "0000000000000001"}}, "capabilities"),
        ({"status": GOOD["status"] | {"NoNewPrivs": "0"}}, "capabilities"),
        ({"status": GOOD["status"] | {"Seccomp": "0"}}, "system calls"),
        ({"vsock": "allowed"}, "system calls"),
        ({"raw": "allowed"}, "system calls"),
        ({"environment": [*GOOD["environment"], "ANTHROPIC_API_KEY"]}, "environment"),
        ({"interfaces": ["lo", "eth0"]}, "network"),
        ({"abroad": "allowed"}, "network"),
        ({"process1": "allowed"}, "process 1"),
        ({"core_pattern": "allowed"}, "kernel settings"),
        ({"canary": "allowed"}, "host files"),
        ({"unshare": "allowed"}, "user namespaces off inside"),
        ({"groups": ["/", "/arrowslit-1"]}, "cgroup namespace"),
        ({"read_only": ["/", "/usr", "/proc/sys"]}, "system read-only"),
        ({"writable": [*GOOD["writable"], "/etc"]}, "system read-only"),
        ({"processes": LIMITS.pids + 1}, "pids"),
        ({"sizes": GOOD["sizes"] | {"/workspace": 1 << 40}}, "disk"),
    ],
)
def test_each_broken_promise_is_named(bad: dict[str, Any], feature: str) -> None:
    assert [each.feature for each in judge(GOOD | bad, LIMITS)] == [feature]


def test_no_promise_goes_unjudged() -> None:
    nothing = GOOD | {
        "uid": 0,
        "status": GOOD["status"] | {"CapBnd": "1" * 16, "Seccomp": "0"},
        "environment": ["SECRET"],
        "interfaces": [],
        "groups": [],
        "read_only": [],
    }
    nothing |= dict.fromkeys(("process1", "core_pattern", "canary", "unshare", "abroad"), "allowed")

    assert [each.feature for each in judge(nothing, LIMITS)] == list(PROMISES)
    assert len(judge(GOOD, replace(LIMITS, pids=1))) == 1
