"""The program `arrowslit` (and `claude-tunnel`): finds the command, and says how it failed.

A command's module is imported when it is asked for, and imports what is slow only when it runs: help is there at once.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import click

from arrowslit import __version__
from arrowslit.app.config import forget_key_log
from arrowslit.cli import speak
from arrowslit.cli.help import Group
from arrowslit.errors import Error

COMMANDS = {  # in the order of the help; each is `command` in the module arrowslit.cli.NAME unless another is named
    "demo": "demo:command",
    "serve": "serve:command",
    "connect": "connect:command",
    "sandbox": "sandbox:command",
    "tunnel": "tunnel:command",
    "agent": "agent:command",
    "environment": "environment:command",
    "key": "key:command",
    "tools": "tools:tools",
    "call": "tools:call",
    "ask": "ask:ask",
    "ledger": "ledger:command",
}


class Program(Group):
    """The group of all commands. Its `main` turns every expected failure into one look and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(f"arrowslit.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def main(  # type: ignore[override]  # of click's overloads only one has a use here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Never:
        """Run and exit: 0 ok, 1 refused or failed, 2 wrong usage, 3 unknown outcome, 130 interrupted."""
        words = list(sys.argv[1:] if args is None else args)
        forget_key_log()
        try:
            extra["standalone_mode"] = False
            sys.exit(super().main(words, prog_name, **extra))
        except click.exceptions.NoArgsIsHelpError as missing:
            missing.show()
            sys.exit(2)
        except click.ClickException as wrong:
            sys.exit(speak.failed(_usage(wrong), as_json="--json" in words))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)  # as a shell says it of a program that SIGINT ended
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: let the last flush succeed
            sys.exit(1)
        except (Error, BaseExceptionGroup) as failure:
            error = _expected(failure)
            if error is None:
                raise
            sys.exit(speak.failed(error, as_json="--json" in words))


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Let agents use private MCP servers through a tunnel that the private side opened.

    On a public host runs `serve`, the relay. Beside the private server runs `connect`: it dials out, and calls travel
    back along that connection and nowhere else. `sandbox` runs the code that agents write, isolated, on a machine of
    yours. The other commands make tunnels, agents and keys, and look at them.

    Try it on one machine:
      arrowslit serve
      arrowslit tunnel create inventory        (in another terminal; then do what it says)

    Environment:
      ARROWSLIT_RELAY          the relay: https://host[:port]#sha256=…   (else the one on this machine)
      ARROWSLIT_API_KEY        the key to use it with, or its file in ARROWSLIT_API_KEY_FILE
                               (else the admin.key of the relay on this machine)
      ARROWSLIT_TUNNEL_TOKEN   what `connect` opens its tunnel with (CLAUDE_TUNNEL_TOKEN works too)
      ARROWSLIT_ENVIRONMENT_KEY   what `sandbox` takes work with (ANTHROPIC_ENVIRONMENT_KEY works too)
      HTTPS_PROXY, NO_PROXY    the proxy on the way to the relay
      SSL_CERT_FILE            certificates of authorities to trust instead of the system's

    Exit status: 0 ok, 1 refused or failed, 2 wrong usage, 3 nobody knows whether the call was executed.
    """


def main() -> None:
    """What the scripts `arrowslit` and `claude-tunnel` run."""
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is for `serve` and `connect`
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an old locale is no reason to fail
    name = Path(sys.argv[0]).name
    cli.main(prog_name="arrowslit" if name == "__main__.py" else name)


def _usage(wrong: click.ClickException) -> Error:
    context = wrong.ctx if isinstance(wrong, click.UsageError) else None
    hint = None if context is None else f"{context.command_path} --help shows how"
    return Error("usage", wrong.format_message(), hint=hint)


def _expected(failure: BaseException) -> Error | None:
    """The Error behind `failure`; task groups wrap it. None if there is something else that nobody expected."""
    if isinstance(failure, Error):
        return failure
    if isinstance(failure, BaseExceptionGroup):
        found = [_expected(each) for each in failure.exceptions]
        return found[0] if all(found) else None
    return None
