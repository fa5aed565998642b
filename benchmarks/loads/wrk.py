"""wrk: calls as fast as a door answers them, so many at once, for so long; and how long each took."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.loads.door import Door, call
from benchmarks.machine import usage
from benchmarks.machine.process import Failed, Program, find

TIMEOUT = 15  # seconds that one answer may take
GRACE = 30.0  # seconds past its own end until wrk is given up
FIRST_ID = 1_000_000_000
IDS = 20_000_000  # of one load: no id comes twice in a session, and all have the same length
MARK = "RESULT"

_numbers = count()


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask of a door. `size` is that of a result in bytes, `pause_ms` the rest of a caller after each answer."""

    at_once: int
    seconds: int
    size: int = 0
    pause_ms: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a load. Times are in milliseconds. `failed` counts answers that were none: another status than 200,
    a broken connection, nothing in time.
    """

    calls: int
    bytes: int
    seconds: float
    p50: float
    p95: float
    p99: float
    failed: int

    @property
    def per_second(self) -> float:
        """Calls."""
        return self.calls / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes, heads included."""
        return self.bytes / self.seconds / 1e6


def script(door: Door, load: Load, first_id: int) -> str:
    """PURE. What wrk is to do, in Lua. The request is made once; only the id in it changes."""
    body = call(door.era, first_id, load.size)
    headers = "\n".join(f"wrk.headers[ {_lua(name)} ] = {_lua(value)}" for name, value in door.fields().items())
    pause = f"function delay() return {load.pause_ms} end" if load.pause_ms else ""
    return f"""
wrk.method = "POST"
wrk.body = {_lua(body)}
{headers}
local next_id, before, after = {first_id}, nil, nil
function init()
    local whole = wrk.format()
    local from, to = string.find(whole, '"id":{first_id}', 1, true)
    before, after = string.sub(whole, 1, from + 4), string.sub(whole, to + 1)
end
function request()
    next_id = next_id + 1
    return before .. string.format("%d", next_id) .. after
end
{pause}
function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format("{MARK} %d %d %d %d %d %d %d", summary.requests, summary.bytes, summary.duration,
        latency:percentile(50), latency:percentile(95), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
"""


def parse(said: str) -> Heard:
    """PURE. What `script` printed at the end. Raises Failed if it did not."""
    line = next((line for line in said.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise Failed(f"wrk did not finish:\n{said}")
    calls, size, duration, p50, p95, p99, failed = map(int, line.split()[1:])
    return Heard(calls, size, duration / 1e6, p50 / 1e3, p95 / 1e3, p99 / 1e3, failed)


def run(folder: Path, door: Door, load: Load) -> Heard:
    """Let wrk do it. Raises Failed if it could not."""
    path, command = _command(folder, door, load)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=load.seconds + GRACE, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"wrk did not end in {load.seconds + GRACE:.0f} s") from error
    finally:
        path.unlink()
    return parse(done.stdout + done.stderr)


@dataclass(frozen=True, slots=True)
class Price:
    """What the processes on the way took during a load: microseconds of processor time a call, MiB afterwards."""

    cpu_us: float
    memory: float


def measured(folder: Path, door: Door, load: Load) -> tuple[Heard, Price]:
    """Run a load, and see what the processes on the way take."""
    pids = door.processes.values()
    before = usage.seconds(pids)
    heard = run(folder, door, load)
    spent = usage.seconds(pids) - before
    return heard, Price(spent / heard.calls * 1e6 if heard.calls else 0.0, usage.resident(pids))


@contextmanager
def meanwhile(folder: Path, door: Door, load: Load) -> Iterator[None]:
    """A load that runs while the block does, whose answers are not looked at. It is stopped after the block."""
    path, command = _command(folder, door, load)
    try:
        with Program(folder, command):
            yield
    finally:
        path.unlink()


def _command(folder: Path, door: Door, load: Load) -> tuple[Path, list[str]]:
    """The script is a file and no argument: it holds a key."""
    number = next(_numbers)
    path = folder / f"wrk-{number}.lua"
    path.touch(mode=0o600)
    path.write_text(script(door, load, FIRST_ID + number % 400 * IDS))
    at_once, seconds = str(load.at_once), f"{load.seconds}s"
    wrk = find("wrk")
    assert wrk is not None
    return path, [wrk, "-t1", "-c", at_once, "-d", seconds, "--timeout", f"{TIMEOUT}s", "-s", str(path), door.url]


def _lua(text: str) -> str:
    return f"[==[{text}]==]"
