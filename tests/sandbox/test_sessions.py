"""Sessions and their ends: SBX-08 and SBX-12 of the security list, and the kills of a worker."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowslit.sandbox.isolation.argv import FILES, RUNNER, SHARED_ETC
from tests.harness import until
from tests.sandbox.families import PATIENCE, family, groups, kill, sleepers
from tests.sandbox.hosts import Half, Host, host
from tests.support.processes import alive, below, of_each, parent


@pytest.fixture
def fresh(half: Half) -> Iterator[Host]:
    """A host of one's own, which may be killed, with a sandbox open."""
    with host(half) as found:
        assert found.error is None, found.error
        found.open()
        yield found


def test_two_sessions_do_not_see_each_other(worker: Host) -> None:
    worker.open("two")
    plant = """
echo secret > /workspace/f; echo secret > /tmp/f; echo secret > /dev/shm/f
echo 'echo ESCAPED' | tee .bashrc .bash_profile .profile /tmp/.bashrc
cat > serve.py <<'END'
import socket, time
local, public = socket.socket(1), socket.create_server(("127.0.0.1", 7777))
local.bind("\\0sbx")
local.listen()
time.sleep(60)
END
python3 serve.py &
until grep -q sbx /proc/net/unix; do :; done
export LD_PRELOAD=/workspace/evil.so
echo $$"""
    worker.shell(plant, leftovers="keep")
    attack = """
cat /workspace/f /tmp/f /dev/shm/f && echo ESCAPED
(exec 3<>/dev/tcp/127.0.0.1/7777) && echo ESCAPED
grep sbx /proc/net/unix && echo ESCAPED
env | grep LD_PRELOAD && echo ESCAPED
for n in $(seq 2 60); do [ $n != $$ ] && kill -9 $n 2>/dev/null && echo ESCAPED; done
bash -lc 'echo in a login shell'
ls /proc | grep -cE '^[0-9]+$'"""
    answer = worker.shell(f"trap '' TERM; {attack}", name="two")
    worker.close("two")

    assert "ESCAPED" not in answer.stdout
    assert answer.stdout.startswith("in a login shell\n")
    assert worker.shell("cat f; pgrep -c python3").stdout == "secret\n2\n"  # process 1, and what serves
    worker.shell("sleep 9", timeout=0.05)


def test_files_on_their_way_in_one_session_stop_no_command_of_another(half: Half) -> None:
    """The kernel counts them by user, and for an ordinary worker that is its own: it must be left some."""
    send = """
import array, time
held = []
try:
    while len(held) < 64:
        near, far = socket.socketpair()
        near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250).tobytes())])
        held.append((near, far))
except OSError as error:
    open("/tmp/full", "w").write(errno.errorcode[error.errno])
while not os.path.exists("/tmp/over"): time.sleep(0.01)"""
    few = ("prlimit", "--nofile=1024:4096") if half == "root" else ("prlimit", "--nofile=1024:1024")
    with host(half, through=few) as worker:
        assert worker.error is None, worker.error
        worker.open()
        worker.begin("python3", "-I", "-S", "-c", worker._prelude + send)
        assert worker.shell("until [ -s /tmp/full ]; do :; done; cat /tmp/full").stdout == "ETOOMANYREFS"

        worker.open("two")
        assert worker.shell("echo on", name="two").stdout == "on\n"
        worker.shell("touch /tmp/over")


def test_what_users_share_is_not_used_up_for_other_sessions(worker: Host) -> None:
    """Pages of pipes, inotify instances, signals that wait: where sessions are the same user, all have one budget."""
    take = """
import fcntl, signal, time
held = []
try:
    while len(held) < 900:
        near, far = os.pipe(); held += [near, far]
        try: fcntl.fcntl(far, 1031, 1 << 20)
        except OSError: pass
        os.set_blocking(far, False)
        try:
            while os.write(far, b"x" * 65536): pass
        except OSError: pass
    while sc("inotify_init1", 0)[0] >= 0: pass
except OSError: pass
signal.pthread_sigmask(0, {40})
about = ctypes.create_string_buffer(struct.pack("iii", 40, 0, -1), 128)
while sc("rt_sigqueueinfo", os.getpid(), 40, about)[0] == 0: pass
os.close(held.pop())  # or no file could be opened any more
open("/tmp/full", "w").write("full")
while not os.path.exists("/tmp/over"): time.sleep(0.01)"""
    taking = worker.begin("python3", "-I", "-S", "-c", worker._prelude + take)
    assert worker.shell("until [ -s /tmp/full ]; do :; done", timeout=9).status == 0

    worker.open("two")
    answer = worker.shell("head -c 300000 /dev/zero | wc -c; head -c 300000 /dev/zero", name="two")
    worker.close("two")
    worker.shell("touch /tmp/over")
    worker.answer(taking)
    worker.shell("rm /tmp/full /tmp/over")

    assert (len(answer.stdout), answer.status) == (300_007, 0)


def test_as_root_each_session_is_another_user(worker: Host) -> None:
    for name in ("two", "three"):
        worker.open(name)
        worker.begin("sleep", "601", name=name)
    until(lambda: len(sleepers(worker)) == 2, "two that sleep")
    uids = set(of_each(sleepers(worker), lambda each: each.uids().real))
    for name in ("two", "three"):
        worker.close(name)

    assert 0 not in uids
    assert len(uids) == (2 if worker.half == "root" else 1)


def test_h7_daemons_do_not_outlive_a_closed_sandbox(worker: Host) -> None:
    worker.open("two")
    daemon = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(f"/tmp/{os.getpid()}", "w")
time.sleep(99)"""
    script = 'for i in 1 2 3; do python3 -c "$0"; done; until [ $(ls /tmp | wc -l) = 3 ]; do :; done'
    worker.run("bash", "-c", script, daemon, name="two", leftovers="keep")
    before = family(worker)
    count = len(groups(worker))

    worker.close("two")

    assert len(before) - len(alive(before)) == 5  # bubblewrap, its process 1, three daemons
    assert len(groups(worker)) == (count // 2 if worker.half == "root" else 0)


def test_symlinks_at_every_bind_target_lead_nowhere(worker: Host, tmp_path: Path) -> None:
    """CVE-2026-87766: what sandboxed code plants must not be there when another sandbox is set up."""
    own = [path for path, _ in FILES.values()]
    targets = [RUNNER, *SHARED_ETC, *own, "/etc", "/proc/sys", "/tmp", "/dev/shm", "/workspace"]
    plant = "; ".join(f"rm -rf {path}; ln -sfn {tmp_path} {path}" for path in targets)
    below = "; ".join(f"mkdir -p .{path}; rmdir .{path}; ln -s {tmp_path} .{path}" for path in targets)
    look = "find / -xdev -path /usr -prune -o -printf '%p %y %l\\n' | sort; ls -A /tmp /dev/shm /workspace"
    worker.open("two")
    before = worker.shell(look, name="two").stdout
    worker.shell(f"exec 2>/dev/null; {plant}; {below}", name="two")
    planted = worker.shell(look, name="two").stdout
    worker.close("two")

    worker.open("two")
    after = worker.shell(look, name="two").stdout
    worker.close("two")

    assert "/etc/passwd f" in before
    assert planted != before  # it did plant, where it may
    assert after == before
    assert list(tmp_path.iterdir()) == []


def test_what_code_writes_lies_nowhere_on_this_machine(worker: Host) -> None:
    """So no host-side git runs its hooks, and nobody's shell or editor reads its dot files."""
    name = "sbx-written-5f0c91"
    hook = f"mkdir -p .git; echo '[core] fsmonitor = touch {name}' > .git/config; echo > {name}"
    script = f"for folder in /workspace /tmp /dev/shm; do cd $folder; {hook}; done"
    worker.shell(script)

    folders = (tempfile.gettempdir(), "/dev/shm", "/var/tmp", "/run")
    found = [path for folder in folders for path, _, files in os.walk(folder) if name in files]

    assert found == []


def test_output_comes_as_bytes_whatever_they_are(worker: Host) -> None:
    printed = '\x1b]52;c;aGk=\x07\x1b[2J\x00\x9b31m\r\n{"event":"forged"}\n'

    answer = worker.run("python3", "-c", f"import sys; sys.stdout.buffer.write({printed.encode('latin-1')!r})")

    assert answer.stdout == printed


def test_h6_what_is_left_after_worker_and_warden_were_killed_is_swept_at_the_next_start(fresh: Host) -> None:
    fresh.start("setsid sleep 603 & sleep 603")
    (warden,) = below(fresh.process.pid, "warden.py", deep=False)
    before = family(fresh)

    os.kill(fresh.process.pid, signal.SIGSTOP)  # so that neither sees the other go
    kill(warden)
    kill(fresh.process.pid)
    until(lambda: not alive(before), "no process left", patience=PATIENCE)
    left = groups(fresh)
    with host(fresh.half) as later:
        assert later.error is None

    assert bool(left) == (fresh.half == "root")
    assert groups(fresh) == []


def test_a_sandbox_that_dies_says_so(fresh: Host) -> None:
    running = fresh.begin("sleep", "604")
    until(lambda: sleepers(fresh), "the sleeper")
    (sleeper,) = sleepers(fresh)

    runner = parent(sleeper)
    assert runner is not None
    kill(runner)

    answer = fresh.answer(running)
    assert (answer.why, answer.status) == ("died", 137)
    assert "sandbox_ended" in fresh._wait(fresh.begin("true"))["error"]
    fresh.open("two")
    assert fresh.run("true", name="two").status == 0


def test_without_its_warden_a_worker_says_so(fresh: Host) -> None:
    running = fresh.begin("sleep", "605")
    until(lambda: sleepers(fresh), "the sleeper")
    (warden,) = below(fresh.process.pid, "warden.py", deep=False)

    kill(warden)

    assert fresh.answer(running).why == "died"
    assert "sandbox_unavailable" in fresh._wait(fresh._send({"open": "two"}))["error"]
    assert groups(fresh) == []
