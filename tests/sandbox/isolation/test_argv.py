from __future__ import annotations

from arrowslit.sandbox.isolation import warden
from arrowslit.sandbox.isolation.argv import FILES, RUNNER, SHARED_ETC, Fd, Layout, bubblewrap
from arrowslit.sandbox.isolation.isolation import Limits

LAYOUT = Layout(
    bwrap="/usr/bin/bwrap",
    python="/usr/bin/python3",
    trees=(("/usr", "/usr"), ("/home/somebody/python", "/opt/python")),
    links=(("usr/bin", "/bin"),),
)
LINE = bubblewrap(LAYOUT, Limits(workspace=7, tmp=8, shm=9), ("pids=1",))


def after(*words: str) -> int:
    """Where a run of words ends."""
    length = len(words)
    return next(at + length for at in range(len(LINE)) if LINE[at : at + length] == words)


def test_every_namespace_is_left_and_nothing_is_inherited() -> None:
    wanted = {f"--unshare-{name}" for name in ("user", "pid", "net", "ipc", "uts", "cgroup")}
    wanted |= {"--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--as-pid-1"}

    assert wanted <= set(LINE)
    assert not {"--share-net", "--bind", "--dev-bind", "--setenv"} & set(LINE)
    assert after("--cap-drop", "ALL")
    assert after("--uid", "1000", "--gid", "1000")


def test_folders_of_the_machine_are_read_only() -> None:
    assert after("--ro-bind", "/usr", "/usr")
    assert after("--ro-bind", "/home/somebody/python", "/opt/python")
    assert after("--symlink", "usr/bin", "/bin")
    assert all(after("--ro-bind-try", path, path) for path in SHARED_ETC)
    assert not any("private" in path or "shadow" in path for path in SHARED_ETC)


def test_what_can_be_written_has_a_size() -> None:
    for size, path in (("7", "/workspace"), ("8", "/tmp"), ("9", "/dev/shm")):
        assert after("--size", size, "--tmpfs", path)
    assert LINE.count("--tmpfs") == 3


def test_order_is_part_of_the_meaning() -> None:
    assert after("--perms", "0755", "--dir", "/etc") < after("--ro-bind-try", "/etc/ssl/certs", "/etc/ssl/certs")
    assert after("--proc", "/proc") < after("--ro-bind", "/proc/sys", "/proc/sys")
    assert after("--dev", "/dev") < after("--tmpfs", "/dev/shm") < after("--remount-ro", "/dev")
    assert after("--ro-bind-data", str(Fd.RUNNER), RUNNER) < after("--remount-ro", "/") < after("--as-pid-1", "--")
    assert LINE[-6:] == ("/usr/bin/python3", "-I", "-S", "-B", RUNNER, "pids=1")


def test_every_open_file_is_named_by_its_number() -> None:
    assert all(after("--ro-bind-data", str(fd), path) for fd, (path, _) in FILES.items())
    assert after("--info-fd", str(warden.INFO_FD)) == after("--info-fd", str(Fd.INFO))
    assert after("--seccomp", str(Fd.SECCOMP))
