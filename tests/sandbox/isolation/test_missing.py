from __future__ import annotations

import pytest

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.missing import HINTS, OTHERWISE, Missing, diagnose, error

APPARMOR = {"kernel.apparmor_restrict_unprivileged_userns": "1"}
SAID = [  # bubblewrap's last words, as they were seen or reported
    (
        "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user",
        {"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "9"},
        Missing("user namespaces", "user namespaces are not allowed here (kernel.unprivileged_userns_clone=0)"),
    ),
    (
        "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
        {"user.max_user_namespaces": "0"},
        Missing("user namespaces", "user namespaces are not allowed here (user.max_user_namespaces=0)"),
    ),
    (
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        APPARMOR,
        Missing(
            "apparmor",
            "user namespaces are blocked by AppArmor (kernel.apparmor_restrict_unprivileged_userns=1)",
        ),
    ),
    (
        "bwrap: setting up uid map: Permission denied",
        APPARMOR,
        Missing(
            "apparmor",
            "user namespaces are blocked by AppArmor (kernel.apparmor_restrict_unprivileged_userns=1)",
        ),
    ),
    (
        "bwrap: setting up uid map: Permission denied",
        {},
        Missing(
            "user namespaces",
            "user namespaces are not allowed here (bwrap: setting up uid map: Permission denied)",
        ),
    ),
    (
        "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
        {},
        Missing(
            "proc",
            "cannot mount /proc: the container lacks CAP_SYS_ADMIN or an unmasked /proc "
            "(bwrap: Can't mount proc on /newroot/proc: Operation not permitted)",
        ),
    ),
    (
        "warning\nbwrap: pivot_root: Invalid argument\n",
        {},
        Missing("start", "bubblewrap did not start a sandbox: bwrap: pivot_root: Invalid argument"),
    ),
    ("", {}, Missing("start", "bubblewrap did not start a sandbox: it said nothing")),
]


@pytest.mark.parametrize(("said", "sysctls", "found"), SAID, ids=[found.feature for _, _, found in SAID])
def test_last_words_are_understood(said: str, sysctls: dict[str, str], found: Missing) -> None:
    assert diagnose(said, sysctls) == found


def test_a_terminal_is_not_steered_by_last_words() -> None:
    assert "\x1b" not in diagnose("bwrap: \x1b[2Jgone", {}).sentence


def test_an_error_names_everything_and_helps_with_the_first() -> None:
    found = error([Missing("memory", "no memory"), Missing("cpu", "no cpu")])

    assert isinstance(found, Error)
    assert (found.code, found.row.exit) == ("sandbox_unavailable", 125)
    assert found.message == "sandbox unavailable: no memory; no cpu"
    assert found.hint == HINTS["memory"]
    assert found.details == {"missing": ["memory", "cpu"]}
    assert error([Missing("start", "it did not")]).hint == OTHERWISE


def test_hints_name_options_that_exist() -> None:
    assert "--uid-range" in HINTS["uid"]
    assert "sandbox.uid_range" not in HINTS["uid"]
