"""How the demo is told: to a person in a terminal, or to a program, one object a line."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import click

from arrowslit.cli import speak
from arrowslit.demo.agent_steps import QUESTION
from arrowslit.demo.scene import Told
from arrowslit.demo.stage import AGENT, TUNNEL, Stage
from arrowslit.demo.story import STEPS
from arrowslit.errors import Error

PICTURE = """\
          public side          |          private side
                               |
  client -- key --> relay <----|---- connector --> stock server --> PostgreSQL
                      ^        |     dials out
                      |        |
                      '--------|---- sandbox worker --> agents' code, isolated
"""
WIDEST = 96  # columns; longer lines are no pleasure to read
INDENT = " " * 12


class Lines:
    """For programs: an object for each step; for what cannot be set up, one of a step named `set_up`."""

    def begin(self) -> None:
        """Nothing to say."""

    def set_up(self, name: str, what: str) -> None:
        """Nothing to say."""

    def told(self, told: Told) -> None:
        """One object."""
        self._line(told.step.name, told.ok, told.outcome, told.detail, seconds=round(told.seconds, 3))

    def end(self, stage: Stage, *, ok: bool) -> None:
        """Nothing to say."""

    def keep(self, stage: Stage) -> None:
        """On stderr: stdout holds the steps and nothing else."""
        for line in _to_try(stage):
            click.echo(line, err=True)

    def failed(self, error: Error) -> None:
        """What could not be set up, and what to do about it."""
        self._line("set_up", False, None, error.message, error=speak.failure(error)["error"])

    def _line(self, step: str, ok: bool, outcome: str | None, detail: str, **more: object) -> None:
        click.echo(json.dumps({"step": step, "ok": ok, "outcome": outcome, "detail": detail, **more}))


class Terminal:
    """For people. Coloured where that shows, and not if `plain`."""

    def __init__(self, *, plain: bool) -> None:
        self._color = False if plain else None  # None: click looks whether it speaks to a terminal
        self._width = min(WIDEST, shutil.get_terminal_size().columns)
        self._began = time.monotonic()
        self._right = 0
        self._steps = 0

    def begin(self) -> None:
        """What this is."""
        self._say("arrowslit demo", bold=True)
        self._say("A private stock server, asked by agents through a tunnel that was opened from inside.")
        self._say(f"\n{PICTURE}", dim=True)

    def set_up(self, name: str, what: str) -> None:
        """A part of the stage is there."""
        self._say(textwrap.fill(f"  {name:12}{what}", self._width, subsequent_indent=" " * 14))

    def told(self, told: Told) -> None:
        """What was tried, what came of it, and what that shows."""
        self._steps += 1
        self._right += told.ok
        outcome = f"{told.outcome or 'no outcome'} ({_duration(told.seconds)})"
        self._say(f"\n{self._steps:>2}. {told.step.title}", bold=True)
        self._labelled("ok" if told.ok else "FAILED", f"{outcome}: {speak.plain(told.detail)}", told.ok)
        self._labelled("why", told.step.why)

    def end(self, stage: Stage, *, ok: bool) -> None:
        """How it came out, and what to try next."""
        seconds = time.monotonic() - self._began
        self._say(
            f"\n{self._right} of {len(STEPS)} came out as promised, in {seconds:.1f} s.",
            fg="green" if ok else "red",
            bold=True,
        )
        if not ok:
            self._say(f"What they said is in {stage.folder}: relay.log, connector.log, sandbox.log, ask.log.")
            return
        self._say("\nNext:")
        self._say(f"  {_program()} demo --keep    leave it running, and ask it yourself")
        self._say("  docs/by-hand.md    build the same loop, command by command")
        if Path(tempfile.gettempdir()) not in stage.folder.parents:  # it will still be there
            self._say(f"  {_program()} ledger verify --state {stage.folder / 'relay'}")
            self._say(f"  {_records(stage)}")

    def keep(self, stage: Stage) -> None:
        """What can be tried now."""
        for line in _to_try(stage):
            self._say(line)

    def failed(self, error: Error) -> None:
        """What went wrong, as any command says it."""
        speak.failed(error, as_json=False)

    def _labelled(self, label: str, text: str, good: bool | None = None) -> None:
        """A paragraph beside its label, which is green or red if it is `good` or not."""
        filled = textwrap.fill(text, self._width, initial_indent=INDENT, subsequent_indent=INDENT)
        fg = None if good is None else "green" if good else "red"
        shown = click.style(f"    {label:8}", fg=fg, bold=good is not None or None)
        self._say(shown + click.style(filled[len(INDENT) :], dim=good is None or None))

    def _say(self, text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> None:
        click.echo(click.style(text, fg=fg, bold=bold, dim=dim), color=self._color)


Teller = Lines | Terminal


def _to_try(stage: Stage) -> list[str]:
    return [
        "",
        "It runs. In another terminal:",
        f"  export ARROWSLIT_RELAY={stage.address}",
        f"  export ARROWSLIT_API_KEY={stage.keys['acme']}",
        f"  {_program()} tools {AGENT} {TUNNEL}",
        f"  {_program()} call {AGENT} {TUNNEL} check_stock sku=BOLT8",
        f'  {_program()} ask {AGENT} "{QUESTION}"',
        f"  {_records(stage)}    what code ran, and what it tried to reach",
        "Ctrl-C here stops everything.",
    ]


def _records(stage: Stage) -> str:
    """A command that shows what the worker said of executions and attempts to get out, a record a line."""
    return f"grep -h said_by_worker {shlex.quote(str(stage.folder / 'relay' / 'ledger'))}/*.jsonl"


def _program() -> str:
    """What to type for `arrowslit` here: after `make demo` in a clone it is on nobody's PATH."""
    called = sys.argv[0]
    return called if shutil.which("arrowslit") is None and Path(called).name == "arrowslit" else "arrowslit"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
