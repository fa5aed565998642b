"""SBX: what code in a sandbox does to get out, to look around, to use things up and to fool who reads what it prints.

Played in real sandboxes of this very process, as whoever runs the tests may have them; tests/sandbox plays many more,
with the worker as root and as an ordinary user.
"""

# ruff: noqa: E501 attacks are shown as they are run

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from arrowslit.cli.speak import plain
from arrowslit.sandbox.archive import unpack
from arrowslit.sandbox.entries import Unsafe
from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Command, Degradable, Ended, Limits, Sandbox, Why
from tests.sandbox import test_archive as archives
from tests.sandbox.attacks import ATTACKS, Attack
from tests.sandbox.canaries import SECRET, Canaries, planted
from tests.sandbox.egress.inside import PORT
from tests.sandbox.egress.kit import LOOPBACK, Gate, Names, Origin, gate, origin, private
from tests.sandbox.egress.ways import ASKED, INWARDS, SILENT, asking, filled
from tests.sandbox.hosts import PRELUDE, SESSION_UIDS, numbers
from tests.sandbox.tools.hands import Hands
from tests.security.cases import case
from tests.security.walk import furnish
from tests.security.world import World
from tests.support.processes import below

AS_ROOT = os.geteuid() == 0
LIMITS = Limits(memory=128 << 20, workspace=32 << 20, files=5_000)
KEY = "ARROWSLIT_ENVIRONMENT_KEY"
KNOWN = "python3", "-I", "-S", "-c"

here_at_once = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Box:
    """A sandbox with a way out to one server, and what lies around it."""

    isolation: Bubblewrap
    sandbox: Sandbox
    gate: Gate
    server: Origin
    canaries: Canaries
    hands: Hands

    async def bash(self, script: str, **more: object) -> Run:
        """Run a line of bash."""
        return await run(self.sandbox, "bash", "-c", script, env=self.gate.environment, **more)

    async def python(self, script: str) -> Run:
        """Run Python with helpers for system calls and for requests."""
        script = filled(asking(script), self.server.port, self.canaries)
        return await run(self.sandbox, *KNOWN, PRELUDE % numbers() + script, env=self.gate.environment)


@dataclass(slots=True)
class Run:
    """What a command printed, on either stream, and its end."""

    text: str = ""
    end: Ended = field(default_factory=lambda: Ended(why=Why.DIED, status=0))


async def run(sandbox: Sandbox, *argv: str, **more: object) -> Run:
    """Run a command to its end."""
    found, said = Run(), b""
    async for each in sandbox.run(Command(argv=argv, **{"timeout": 10.0, **more})):  # type: ignore[arg-type]
        if isinstance(each, Ended):
            found.end = each
        else:
            said += each.data
    found.text = said.decode(errors="replace")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box() -> AsyncIterator[Box]:
    """One for all, with canaries planted around it and in the worker's environment."""
    degraded: tuple[Degradable, ...] = () if AS_ROOT else ("memory", "cpu", "pids")
    uids = range(SESSION_UIDS[1] + 10, SESSION_UIDS[1] + 20) if AS_ROOT else None
    with planted() as canaries, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, SECRET)
        async with origin() as server, Bubblewrap(LIMITS, uids=uids, allow_degraded=degraded) as isolation:
            sandbox = await isolation.open("sesn_1", listen=PORT)
            names = Names({**LOOPBACK, INWARDS: [["169.254.169.254"]]})
            rules = [*private(server.port), {"host": INWARDS, "ports": [80]}]
            async with gate(rules, names=names, at=sandbox.listener) as found:
                hands = Hands(sandbox)
                yield Box(isolation, sandbox, found, server, canaries, hands)
                await hands.close()


def rows(ident: str, table: Mapping[str, object]) -> dict[str, object]:
    """Those of a table whose names begin with the case."""
    return {name.removeprefix(f"{ident} "): row for name, row in table.items() if name.startswith(f"{ident} ")}


def attacks(cases: str, *chosen: str) -> dict[str, Attack]:
    """These of the attacks."""
    known = {each.id: each for each in ATTACKS[cases]}
    return {name: known[name] for name in chosen}


async def refused(box: Box, attack: Attack) -> None:
    """The attack finds none of what was planted."""
    command = attack.command
    for name, value in box.canaries.names().items():
        command = command.replace("{" + name + "}", value)
    said = await (box.python if attack.python else box.bash)(command)

    assert "ESCAPED" not in said.text, said
    assert SECRET not in said.text
    assert "blocked" in said.text, said


# ---------------------------------------------------------------- network


@here_at_once
@case("SBX-01", "script", rows("SBX-01", SILENT))
async def test_without_the_proxy_nothing_is_reached(box: Box, script: str) -> None:
    said = await box.python(script)

    assert "ESCAPED" not in said.text, said
    assert said.text.startswith("blocked"), said
    assert box.server.received == []
    assert box.gate.attempts.empty()


@here_at_once
@case("SBX-01", "url", {"curl http": "http://evil.test:{}/", "curl https": "https://evil.test:{}/"})
async def test_what_is_not_allowed_is_refused_by_name(box: Box, url: str) -> None:
    said = await box.bash(f"curl -sSv {url.format(box.server.port)}; tail -n +3 /proc/net/dev | cut -d: -f1")
    attempt = await box.gate.attempt()

    assert "403 sandbox_egress_denied" in said.text
    assert said.text.split()[-1] == "lo"  # no other interface: no packet either
    assert (attempt.host, attempt.bytes_out) == ("evil.test", 0)
    assert box.server.received == []


@here_at_once
@case("SBX-02", "script,code", rows("SBX-02", ASKED))
async def test_the_proxy_refuses_and_records(box: Box, script: str, code: str) -> None:
    said = await box.python(script)
    attempt = await box.gate.attempt()

    assert said.text.startswith("blocked"), said
    assert attempt.code == code
    assert [bytes(each) for each in box.server.received] in ([], [b""])
    box.server.received.clear()


@here_at_once
@case("SBX-02", "path", {"the allowed host": "/"})
async def test_what_is_allowed_is_reached(box: Box, path: str) -> None:
    said = await box.bash(f"curl -sS http://allowed.test:{box.server.port}{path}")
    attempt = await box.gate.attempt()

    assert said.text == "ok"
    assert (attempt.host, attempt.verdict) == ("allowed.test", "allowed")
    box.server.received.clear()


@here_at_once
@case("SBX-03", "script", rows("SBX-03", SILENT))
async def test_no_local_socket_is_reachable(box: Box, script: str) -> None:
    said = await box.python(script)

    assert "ESCAPED" not in said.text, said
    assert said.text.startswith("blocked"), said


@here_at_once
@case("SBX-03", "variable", {"ssh-agent": "SSH_AUTH_SOCK"})
async def test_an_agent_of_the_worker_is_not_handed_on(
    box: Box, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, box.canaries.local)

    assert (await box.bash(f"echo ${variable}; find / -xdev -type s 2>/dev/null")).text == "\n"


# ---------------------------------------------------------------- files


@here_at_once
@case(
    "SBX-04",
    "attack",
    attacks(
        "SBX-04 SBX-10", "9-shadow", "10-homes", "3-environment-of-process-1", "7-a-file-of-the-host", "H4-up-and-out"
    )
    | attacks("SBX-09", "106-write-the-system", "105-overwrite-the-runner"),
)
async def test_no_file_of_the_machine_is_read_or_written(box: Box, attack: Attack) -> None:
    await refused(box, attack)


@here_at_once
@case("SBX-04", "look", {"another session": "cat /workspace/f /tmp/f /dev/shm/f"})
async def test_another_session_is_another_place(box: Box, look: str) -> None:
    await box.bash("echo mine | tee f /tmp/f /dev/shm/f")
    other = await box.isolation.open("sesn_2")
    said = await run(other, "bash", "-c", look)
    await other.close()

    assert "mine" not in said.text
    assert said.text.count("No such file") == 3


@here_at_once
@case(
    "SBX-04",
    "tool,given",
    {
        "a tool that reads": ("read", {"file_path": "/etc/passwd"}),
        "a tool that writes": ("write", {"file_path": "../usr/x", "content": ""}),
        "a tool that edits": ("edit", {"file_path": "/etc/hosts", "old_string": "l", "new_string": "x"}),
        "a tool that searches": ("grep", {"pattern": ".", "path": "/etc"}),
        "a link": ("read", {"file_path": "link"}),
    },
)
async def test_a_tool_keeps_to_the_workspace(box: Box, tool: str, given: Mapping[str, object]) -> None:
    await box.bash("ln -sf /etc/passwd link")

    assert "is outside the session's working directory" in await box.hands(tool, **given)


ARCHIVES = {
    "zip-slip": "zip: slip",
    "zip-slip as Windows has it": "zip: slip, as Windows has it",
    "zip-slip in a tar": "tar: a name that climbs",
    "an absolute name": "tar: an absolute name",
    "symlink entry": "tar: a symlink out",
    "symlink entry, and a file through it": "tar: a symlink out, and a file through it",
    "hardlink": "tar: a hard link out",
    "symlink entry in a zip": "zip: a symlink out",
    "device": "tar: a block device",
    "42.zip": "zip: a bomb",
    "42.zip, in pieces": "zip: entries that overlap",
    "10^6 entries": "zip: many entries",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@case("SBX-06", "attack", {name: archives.ATTACKS[each] for name, each in ARCHIVES.items()})
def test_a_bad_archive_is_refused_whole(tmp_path_factory: pytest.TempPathFactory, attack: Callable[[], bytes]) -> None:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "into").mkdir()
    fd = os.open(folder / "into", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(Unsafe):
            unpack(attack(), fd, archives.LIMITS)
    finally:
        os.close(fd)

    assert [each.name for each in folder.rglob("*")] == ["into"]


@case("SBX-06", "mode", {"setuid": 0o4755, "setgid and sticky": 0o3755})
def test_an_archive_gives_no_bit_away(tmp_path_factory: pytest.TempPathFactory, mode: int) -> None:
    folder = tmp_path_factory.mktemp("archive")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        unpack(archives.tar(archives.member("x", b"x", mode=mode, uid=0, uname="root")), fd)
    finally:
        os.close(fd)

    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o755


# ---------------------------------------------------------------- resources

USE_UP: dict[str, tuple[str, Callable[[Run], bool]]] = {
    "fork bomb": (
        "bomb(){ bomb | bomb & }; bomb; sleep 0.5",
        lambda run: "pids" in run.end.limits if AS_ROOT else "Resource temporarily unavailable" in run.text,
    ),
    "memory": (
        "python3 -S -c 'x = bytearray(b\"x\") * (1 << 30)'; sleep 0.3",
        lambda run: run.end.limits == ("memory",),
    ),
    "disk": ("cat /dev/zero > f; rm f", lambda run: "No space left" in run.text),
    "inode": (
        'python3 -S -c "for n in range(400000): open(str(n), chr(119)).close()"; sleep 1',
        lambda run: run.end.limits == ("files",),
    ),
    "fd": (
        "python3 -S -c 'l = [open(\"/dev/null\") for _ in range(5000)]'",
        lambda run: "Too many open files" in run.text,
    ),
    "output": ("yes", lambda run: run.end.why is Why.OUTPUT_LIMIT and len(run.text) == 1 << 20),
    "cpu": (
        'for n in 1 2 3; do timeout 0.5 sh -c "while :; do :; done" & done; wait',
        lambda run: run.end.cpu < 1.2 * run.end.seconds + 0.2,
    ),
    "sleep": ("trap '' TERM; sleep 60", lambda run: run.end.why is Why.TIMEOUT and run.end.seconds < 4),
}


@here_at_once
@case("SBX-07", "script,stopped", USE_UP)
async def test_what_is_used_up_is_named_and_nothing_else_suffers(
    box: Box, script: str, stopped: Callable[[Run], bool]
) -> None:
    said = await box.bash(script, timeout=2.0)
    gone = "until [ $(ls /proc | grep -c '^[0-9]') -le 6 ]; do :; done"  # process 1, sh, ls, grep, and what tools keep
    other = await run(box.sandbox, "sh", "-c", f"rm -rf /workspace/*; {gone}; echo on", timeout=5.0)

    assert stopped(said), (said.end, said.text[-300:])
    assert said.end.seconds < 5
    assert other.text == "on\n"


# ---------------------------------------------------------------- processes

DAEMON = """
import os, signal, time
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open("/tmp/daemon", "w")
time.sleep(99)"""


@here_at_once
@case("SBX-08", "leftovers", {"setsid, double fork, signals ignored": "keep", "the same, as nobody allowed it": "kill"})
async def test_nothing_survives_the_end_of_a_session(box: Box, leftovers: str) -> None:
    before = {each.pid for each in below()}
    session = await box.isolation.open("sesn_3")
    await run(session, *KNOWN, DAEMON, leftovers=leftovers)
    if leftovers == "keep":
        both = "until [ -e /tmp/daemon ] && [ $(pgrep -c python3) = 2 ]; do :; done"  # process 1, and the daemon
        assert (await run(session, "sh", "-c", both)).end.status == 0
    else:
        assert (await run(session, "pgrep", "-c", "python3")).text == "1\n"
    await session.close()

    assert {each.pid for each in below()} <= before


@here_at_once
@case(
    "SBX-08",
    "script",
    {
        "ptrace": f"t('ptrace', 16, 1, 0, 0); t('ptrace', 16, {os.getpid()}, 0, 0); t('ptrace', 0, 0, 0, 0)",
        "TIOCSTI": "import pty, fcntl; m, s = pty.openpty(); may(lambda: fcntl.ioctl(s, 0x5412, b'x')); op('/dev/tty')",
        "kill -9 1": f"[os.kill(1, n) for n in (9, 19, 15, 2, 1, 11, 17)]; may(lambda: os.kill({os.getpid()}, 9)); print('blocked')",
        "kill -9 -1": "may(lambda: os.kill(-1, 9)) if os.getpid() == 1 else print('blocked')",
    },
)
async def test_the_worker_and_process_1_are_out_of_reach(box: Box, script: str) -> None:
    said = await box.python(script)

    assert "ESCAPED" not in said.text, said
    assert said.text.startswith("blocked"), said
    assert (await box.bash("echo on")).text == "on\n"


@here_at_once
@case(
    "SBX-09",
    "attack",
    attacks(
        "SBX-09",
        *("42-unshare-user", "43-unshare-mount", "33-mount-tmpfs", "55-bpf", "57-io-uring", "52-keyctl", "52-add-key"),
        *("58-userfaultfd", "55-perf", "60-init-module", "72-setuid-program", "48-setns", "30-core-pattern"),
    ),
)
async def test_no_privilege_is_gained(box: Box, attack: Attack) -> None:
    await refused(box, attack)


# ---------------------------------------------------------------- credentials


@here_at_once
@case(
    "SBX-10",
    "script",
    {
        "environment": "env; cat /proc/*/environ",
        "files": "grep -rs CANARY /etc /run /tmp /workspace /proc/self/cwd; ls -a ~ /root /home",
        "worker token": f"echo ${KEY}; tr '\\0' '\\n' < /proc/self/environ; cat /proc/1/environ /proc/*/cmdline",
        "IMDS": "curl -s -m 2 http://169.254.169.254/latest/meta-data/iam/; curl -s -m 2 --noproxy '*' http://169.254.169.254/",
    },
)
async def test_no_credential_is_inside(box: Box, script: str) -> None:
    said = await box.bash(script)

    assert os.environ[KEY] == SECRET
    assert SECRET not in said.text
    assert "asl_" not in said.text
    while not box.gate.attempts.empty():
        assert box.gate.attempts.get_nowait().bytes_out == 0


@case("SBX-10", "path", {"foreign session": "/v1/sessions/{}", "its events": "/v1/sessions/{}/events"})
def test_the_token_of_a_session_opens_no_other(here: World, path: str) -> None:
    token = furnish(here, "acme").keys["sessions token"]
    mine, other = here.session("acme"), here.session("evil")

    for session in (mine, other, "sesn_000000000000000000000000"):
        assert here.refused("GET", path.format(session), key=token) == (404, "session_not_found")


# ---------------------------------------------------------------- output


@here_at_once
@case(
    "SBX-12",
    "printed,kept",
    {
        "ANSI": (r"'\e[31mred\e[0m\e[2J\e[H'", "red"),
        "OSC 52": (r"'\e]52;c;c3RlYWw=\a\e]0;title\e\\text'", "text"),
        "NUL": (r"'a\0b\xff'", "a\0b\ufffd"),
        "a forged line": (
            r"'x\r\n2026-11-22T10:00:00Z error all is lost'",
            "x\r\n2026-11-22T10:00:00Z error all is lost",
        ),
    },
)
async def test_what_steers_a_terminal_is_left_out_or_shown(box: Box, printed: str, kept: str) -> None:
    said = await box.hands("bash", command=f"printf {printed}")

    assert said == kept
    assert plain(said).isprintable()  # as the console shows it


@here_at_once
@case("SBX-12", "size", {"a line of 1 GiB": "1G"})
async def test_a_line_without_end_is_capped(box: Box, size: str) -> None:
    line = "head -c {} /dev/zero | tr '\\0' x; echo end"
    command = await box.bash(line.format(size))
    tool = await box.hands("bash", command=line.format("8M"))  # all of it is read, and slowly

    assert (command.end.why, len(command.text)) == (Why.OUTPUT_LIMIT, 1 << 20)
    assert tool.startswith("[output truncated]\n")
    assert tool.endswith("xend")
    assert len(tool) < 110_000
