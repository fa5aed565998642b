"""What sandboxed code can use up: SBX-06, as far as it unpacks inside, and SBX-07 of the security list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.hosts import LIMITS, Host

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _still_alive(worker: Host) -> Iterator[None]:
    """Whatever an attack used up, the next command finds a sandbox that works."""
    tidy = "find /workspace /tmp /dev/shm -mindepth 1 -delete; echo alive"
    worker.shell(tidy)
    yield
    answer = worker.shell(tidy)
    assert (answer.stdout, answer.status) == ("alive\n", 0), answer


def test_111_a_flood_of_output_is_cut(worker: Host) -> None:
    answer = worker.shell("yes 0123456789")

    assert (answer.why, len(answer.stdout)) == ("output_limit", MIB)


def test_111_both_streams_count(worker: Host) -> None:
    answer = worker.shell("yes >&2 & yes", max_output=50_000)

    assert answer.why == "output_limit"
    assert len(answer.text) == 50_000


def test_112_a_fork_bomb_stops_at_the_limit_and_leaves_nothing(worker: Host) -> None:
    answer = worker.shell("bomb(){ bomb | bomb & }; bomb; sleep 1", timeout=1.5)

    assert "Resource temporarily unavailable" in answer.stderr
    assert worker.shell("ls -d /proc/[0-9]* | wc -l").stdout.strip() in ("3", "4")  # process 1, bash, ls, wc
    if worker.half == "root":
        assert "pids" in answer.limits


def test_112_a_bomb_that_leaves_its_session_is_stopped_too(worker: Host) -> None:
    script = """
import os, time
if os.fork(): os._exit(0)
end = time.monotonic() + 1
while time.monotonic() < end:
    try:
        if not os.fork(): os.setsid()
    except OSError: time.sleep(0.01)
"""
    worker.python(script)

    assert worker.shell("ls -d /proc/[0-9]* | wc -l").stdout.strip() in ("3", "4")


def test_112_threads_count(worker: Host) -> None:
    script = """
import threading
held = threading.Event()
n = 0
try:
    while n < 5000:
        threading.Thread(target=held.wait, daemon=True).start(); n += 1
except RuntimeError: pass
print(n, flush=True)
os._exit(0)
"""
    assert 50 < int(worker.python(script).stdout) <= 128


def test_114_a_memory_bomb_is_killed_and_the_limit_named(worker: Host) -> None:
    script = 'x = []\nwhile len(x) < 4096: x.append(bytearray(b"x") * (1 << 20))\nprint("ESCAPED")'

    answer = worker.python(script)

    assert "ESCAPED" not in answer.stdout
    assert (answer.why, answer.status) == ("signal", 137)
    assert answer.limits == ("memory",)


def test_114_many_small_processes_are_bounded_together(worker: Host) -> None:
    script = """
over, end = os.pipe()
for _ in range(24):
    if os.fork() == 0:
        os.close(end)
        x = bytearray(b"x") * (40 << 20)
        os.read(over, 1)
        os._exit(0)
killed = 0
while killed < 6:
    killed += os.waitstatus_to_exitcode(os.wait()[1]) == -9
print("six were killed")
"""
    answer = worker.python(script)

    assert answer.limits == ("memory",), answer
    assert answer.stdout == "six were killed\n"


def test_115_memory_files_are_bounded(worker: Host) -> None:
    script = """
fds, n = [], 0
try:
    while n < 2048:
        if n % 200 == 0: fds.append(os.memfd_create("x"))
        n += os.write(fds[-1], b"x" * (1 << 20)) >> 20
    print("ESCAPED", n)
except OSError as e:
    print("blocked", n, "MiB", e)
"""
    answer = worker.python(script)

    assert "ESCAPED" not in answer.stdout
    assert answer.limits == ("memory",) if worker.half == "root" else answer.stdout.startswith("blocked 0 MiB"), answer


def test_115_shared_anonymous_memory_is_bounded_also_when_no_process_keeps_its_pages(worker: Host) -> None:
    script = """
import mmap, time
held = []
for n in range(20):
    held.append(mmap.mmap(-1, 32 << 20))
    for at in range(0, 32 << 20, 4096):
        held[-1][at] = 1
    held[-1].madvise(mmap.MADV_DONTNEED)
    time.sleep(0.05)
time.sleep(15)
print("ESCAPED")
"""
    answer = worker.python(script)

    assert "ESCAPED" not in answer.stdout, answer
    assert answer.limits == ("memory",), answer


def test_115_one_memory_file_is_bounded(worker: Host) -> None:
    script = "os.posix_fallocate(os.open('/dev/shm/x', os.O_RDWR | os.O_CREAT), 0, 1 << 30); print('ESCAPED')"

    assert "ESCAPED" not in worker.python(script).stdout


def test_115_shared_memory_segments_are_bounded(worker: Host) -> None:
    script = """
import time
for n in range(20):
    i = _libc.shmget(0, 32 << 20, 0o1600)
    _libc.shmat.restype = ctypes.c_void_p
    at = _libc.shmat(i, None, 0)
    ctypes.memset(at, 1, 32 << 20)
    _libc.shmdt(ctypes.c_void_p(at))
    time.sleep(0.05)
time.sleep(0.5)
print("ESCAPED")
"""
    answer = worker.python(script)

    assert "memory" in answer.limits, answer
    worker.shell("ipcrm --all=shm")


@pytest.mark.parametrize(
    "fill",
    [
        "far = near(); s = listener.accept()[0]; give(s); give(far); keep += [s, far]",
        "s = socket.socket(2, 2); s.bind(('127.0.0.1', 0)); s.connect(s.getsockname()); give(s); keep.append(s)",
    ],
    ids=["TCP", "UDP"],
)
def test_115_what_waits_in_sockets_is_bounded(fill: str, worker: Host) -> None:
    """The machine has one budget for all (net.ipv4.tcp_mem): a session that took it would cut everybody off."""
    script = f"""
import time
listener, keep = socket.create_server(("127.0.0.1", 0)), []
def near():
    s = socket.socket(); s.setsockopt(1, 7, 8 << 20); s.setsockopt(1, 8, 8 << 20)
    s.connect(listener.getsockname()); return s
def give(s):
    s.setblocking(False)
    try:
        for _ in range(20): s.send(b"x" * 60_000)
    except OSError: pass
for n in range(400):
    {fill}
pages = [int(row.split()[row.split().index("mem") + 1]) for row in open("/proc/net/sockstat") if " mem " in row]
print(sum(pages) * 4096, flush=True)
time.sleep({0 if worker.half == "root" else 15})
"""
    answer = worker.python(script)

    if worker.half == "root":
        assert int(answer.stdout) < 200 * MIB, answer  # others of this machine are counted too
    else:
        assert answer.limits == ("memory",), answer


def test_115_messages_are_bounded(worker: Host) -> None:
    """System V messages belong to no process. A cgroup counts them; the kernel's own limit is 512 MB."""
    script = """
import time
n = 0
while n < 16_000:
    i, _ = sc("msgget", 0, 0o1600)
    if i < 0: break
    for _ in range(2): sc("msgsnd", i, struct.pack("q", 1) + b"x" * 8000, 8000, 0o4000)
    n += 1
time.sleep(LONG)
print(n)
"""
    answer = worker.python(script.replace("LONG", "0" if worker.half == "root" else "15"))
    worker.shell("ipcrm --all=msg")

    assert answer.stdout == "16000\n" if worker.half == "root" else answer.limits == ("memory",), answer


def test_117_shared_memory_is_of_a_fixed_size(worker: Host) -> None:
    answer = worker.shell("dd if=/dev/zero of=/dev/shm/f bs=1M count=200; stat -c %s /dev/shm/f")

    assert answer.stdout == f"{16 * MIB}\n"


def test_117_tmp_is_of_a_fixed_size(worker: Host) -> None:
    answer = worker.shell("dd if=/dev/zero of=/tmp/f bs=1M count=200; stat -c %s /tmp/f")

    assert answer.stdout == f"{64 * MIB}\n"


def test_118_one_file_has_a_largest_size(worker: Host) -> None:
    answer = worker.shell("dd if=/dev/zero of=f bs=1M count=1024; stat -c %s f")

    assert answer.stdout == f"{256 * MIB}\n"


def test_h9_the_workspace_has_a_quota(worker: Host) -> None:
    script = "for n in 1 2 3 4 5 6; do dd if=/dev/zero of=f$n bs=1M count=100; done; du -sm . | cut -f1"

    answer = worker.shell(script)

    assert "No space left on device" in answer.stderr
    assert int(answer.stdout) <= LIMITS["workspace"] // MIB


def test_sparse_files_are_no_way_round(worker: Host) -> None:
    answer = worker.shell(
        "truncate -s 1T f || echo blocked; fallocate -l 250M g; fallocate -l 250M h; du -sm . | cut -f1"
    )

    assert answer.stdout.startswith("blocked")
    assert int(answer.stdout.split()[-1]) <= LIMITS["workspace"] // MIB


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_a_flood_of_files_is_stopped(folder: str, worker: Host) -> None:
    script = f"""
n = 0
try:
    while n < 400_000:
        os.close(os.open(f"{folder}/{{n}}", os.O_CREAT)); n += 1
    print("ESCAPED")
except OSError as e: print("blocked", n, e)
"""
    answer = worker.python(script)

    assert "ESCAPED" not in answer.stdout
    assert answer.limits == ("files",)


def test_120_open_files_are_bounded(worker: Host) -> None:
    script = """
n, l = 0, []
try:
    while n < 5000: l.append(os.open("/dev/null", 0)); n += 1
    print("ESCAPED")
except OSError as e: print("blocked", n, e)
"""
    assert worker.python(script).stdout.startswith("blocked 1021 [Errno 24]")


def test_121_a_processor_hog_gets_its_share(worker: Host) -> None:
    """One processor's worth (the limit), whatever it starts."""
    answer = worker.shell('for i in 1 2 3 4; do (timeout 0.8 sh -c "while :; do :; done") & done; wait')

    assert answer.cpu <= 1.15 * answer.seconds + 0.1, answer
    assert answer.cpu > 0.02  # the machine may be busy; but it did run


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(worker: Host) -> None:
    answer = worker.shell("setsid sleep 60 & trap '' TERM INT; sleep 60", timeout=0.3)

    assert answer.why == "timeout"
    assert answer.seconds < 2
    assert worker.shell("pgrep sleep; echo none").stdout == "none\n"


def test_what_a_command_leaves_behind_ends_with_it(worker: Host) -> None:
    worker.shell("(setsid sleep 60 & disown) & nohup sleep 60 & disown; exit")

    assert worker.shell("pgrep sleep; echo none").stdout == "none\n"


def test_what_may_stay_stays_until_others_end(worker: Host) -> None:
    worker.shell("cp /bin/sleep dozer; setsid ./dozer 60 & until pgrep -x dozer; do :; done", leftovers="keep")
    worker.shell("true")

    assert worker.shell("pgrep -xc dozer").stdout == "1\n"
    worker.shell("sleep 30", timeout=0.1)
    assert worker.shell("pgrep dozer; echo none").stdout == "none\n"


def test_h8_orphans_do_not_pile_up(worker: Host) -> None:
    worker.shell("for i in $(seq 100); do (true & ) ; done", leftovers="keep")

    gone = "while grep -q 'State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo none"
    assert worker.shell(gone).stdout == "none\n"


def test_69_the_x32_abi_kills(worker: Host) -> None:
    answer = worker.python("print('before', flush=True); sc(0x40000000 + 39); print('ESCAPED')")

    assert (answer.stdout, answer.why, answer.status) == ("before\n", "signal", 159)


def test_69_the_32_bit_abi_kills(worker: Host) -> None:
    """`int 0x80` with the number of getpid, in machine code."""
    script = """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print("before", flush=True)
print("ESCAPED", call())
"""
    answer = worker.python(script)

    assert (answer.stdout, answer.status) == ("before\n", 159)


def test_73_su_leads_nowhere(worker: Host) -> None:
    answer = worker.shell("echo | su -c id && echo ESCAPED || echo blocked")

    assert answer.stdout.endswith("blocked\n")


def test_127_a_bad_archive_changes_nothing_outside(worker: Host) -> None:
    script = """
import io, tarfile, subprocess
def archive(path):
    with tarfile.open(path, "w") as tar:
        for name in ("../../usr/zz", "../../etc/zz", "/usr/zz", "/dev/zz", "../../run/zz"):
            info = tarfile.TarInfo(name); info.size = 1; tar.addfile(info, io.BytesIO(b"x"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(f"link{kind.decode()}"); info.type = kind; info.linkname = "/usr/bin/env"
            tar.addfile(info)
        info = tarfile.TarInfo("device"); info.type = tarfile.BLKTYPE; info.devmajor = 254; tar.addfile(info)
archive("bad.tar")
for member in tarfile.open("bad.tar"):
    try: tarfile.open("bad.tar").extract(member)
    except Exception as e: print(type(e).__name__)
subprocess.run(["tar", "-xPf", "bad.tar"], capture_output=True)
for path in ("/usr/zz", "/etc/zz", "/dev/zz", "/run/zz"):
    if os.path.lexists(path): print("ESCAPED", path)
try:
    open("device", "rb"); print("ESCAPED device")
except OSError as e: print("blocked", e)
"""
    answer = worker.python(script)

    assert "ESCAPED" not in answer.stdout
    assert not any(Path(folder, "zz").exists() for folder in ("/usr", "/etc", "/dev", "/run"))
