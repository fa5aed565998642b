"""`make fuzz`: atheris looks, guided by which lines are reached, for bytes with which a target breaks a promise.

    make fuzz                                      every target for ten minutes, as many at once as there are processors
    make fuzz ARGS="--seconds 60 json sse"         two of them, for a minute
    make fuzz ARGS="--again .cache/fuzz/json/crash-…"    one input once more, with its traceback

What was found is kept in `.cache/fuzz/TARGET/`: the corpus, from which the next run goes on, and each input that broke
something. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from requirements import install
from tests.fuzz.seeds import SEEDS

HERE = Path(__file__).resolve().parent
LOCK = HERE / "atheris.txt"
KEPT = install.ROOT / ".cache" / "fuzz"
LONGEST = 4096  # bytes of an input: a frame, an event or a message needs no more to be odd
SLOWEST = 5  # seconds for one input; more is a finding
NO_ATHERIS = "make fuzz: atheris has no package for this machine's Python; it has for 3.11 to 3.13 on Linux (x86-64)\n"


def main(arguments: list[str]) -> int | str:
    """Returns an exit status, or what went wrong as text."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Look for bytes that break a promise.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(SEEDS)}; all if none is named")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("--again", type=Path, metavar="FILE", help="try one input of the folder that is named like it")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if unknown := sorted(set(told.targets) - SEEDS.keys()):
        parser.error(f"there is no target {unknown[0]}")
    if told.again:
        return _again(told.again)
    if told.in_process:
        _fuzz(told.targets[0], told.seconds)
    if failure := install.main(["--into", str(_environment()), str(LOCK)]):
        return NO_ATHERIS + failure
    return _every(told.targets or list(SEEDS), told.seconds)


def _every(names: list[str], seconds: int) -> int:
    """All targets, each in a process of its own, which a finding ends."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda name: _one(name, seconds), names))
    return int(any(results))


def _one(name: str, seconds: int) -> bool:
    """Whether something was found."""
    kept = KEPT / name
    (kept / "corpus").mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (kept / "corpus" / f"seed-{number}").write_bytes(seed)
    print(f"{name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--in-process"]
    with (kept / "log").open("wb") as log:
        done = subprocess.run(command, cwd=install.ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    said = (kept / "log").read_text(errors="replace")
    runs = re.findall(r"^#(\d+)", said, re.MULTILINE)
    if done.returncode == 0:
        print(f"{name}: {int(runs[-1]) if runs else 0:,} inputs, nothing found", flush=True)
        return False
    found = re.findall(r"Test unit written to (\S+)", said)
    where = "".join(f"\n    make fuzz ARGS='--again {os.path.relpath(each, install.ROOT)}'" for each in found)
    print(f"{name}: FOUND SOMETHING{where}\n    the log: {os.path.relpath(kept / 'log', install.ROOT)}", flush=True)
    return True


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz in this process, until the time is up or something is found; does not return."""
    sys.path.append(str(_environment() / "lib" / f"python{_version()}" / "site-packages"))
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["arrowslit"]):
        targets = importlib.import_module("tests.fuzz.targets")
    kept = KEPT / name
    flags = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={kept}/", str(kept / "corpus")], targets.TARGETS[name])
    atheris.Fuzz()


def _again(path: Path) -> int:
    """Fails with a traceback if the input still breaks its target."""
    from tests.fuzz.targets import TARGETS

    TARGETS[path.resolve().parent.name](path.read_bytes())
    print("it breaks nothing any more")
    return 0


def _environment() -> Path:
    return KEPT / f"atheris-{install.digest(LOCK.read_bytes())[:12]}-{platform.python_version()}"


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
