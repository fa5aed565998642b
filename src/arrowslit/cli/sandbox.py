"""`arrowslit sandbox`: where an agent's code runs."""

from __future__ import annotations

import asyncio
import codecs
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import click

from arrowslit.app import config
from arrowslit.cli import logs, options, speak
from arrowslit.cli.help import Group
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.app.build.sandbox import Sandboxes
    from arrowslit.app.sandbox_run import Ran
    from arrowslit.policy.egress import Rule
    from arrowslit.sandbox.egress.attempt import Attempt
    from arrowslit.sandbox.isolation.isolation import Output, Report

log = logging.getLogger("arrowslit.sandbox")

TIMED_OUT = 124  # as timeout(1)
DANGER = "--i-know-there-is-no-isolation"

F = TypeVar("F", bound=Callable[..., Any])


def _isolation_options(command: F) -> F:
    """The options that every command with a sandbox has."""
    for option in (
        click.option(DANGER, "no_walls", is_flag=True, help="Needed with --isolation none."),
        click.option(
            "--isolation",
            "kind",
            type=click.Choice(["bubblewrap", "none"]),
            default="bubblewrap",
            help="What stands around the code. none: it runs as you, with your files and your network.",
        ),
        click.option(
            "--allow-degraded",
            "degraded",
            multiple=True,
            metavar="LIMIT,…",
            help="Let these be a best effort where this machine cannot keep them: memory, cpu, pids, disk.",
        ),
        click.option("--uid-range", metavar="FIRST-LAST", help="Users that nobody is, for sessions. Root needs them."),
    ):
        command = option(command)
    return command


@click.group(cls=Group, invoke_without_command=True)
@click.option("--environment", metavar="ENV", help="The environment to serve: env_…")
@click.option(
    "--capacity", type=click.IntRange(1, 1000), default=4, show_default=True, help="Sessions to serve at once."
)
@click.option("--allow-host", "hosts", multiple=True, metavar="HOST[:PORT]", help="Let code reach it; or *.SUFFIX.")
@click.option(
    "--allow-private-host",
    "private",
    multiple=True,
    metavar="HOST[:PORT]",
    help="The same for one in a private network or on this machine.",
)
@_isolation_options
@click.option(
    "--idle", default="60s", show_default=True, metavar="TIME", help="Stay so long with a session after its turn."
)
@click.option("--relay", metavar="URL", help="The relay, instead of ARROWSLIT_RELAY.")
@click.option("--health", metavar="HOST:PORT", help="Serve /healthz, /readyz and /metrics there, on loopback only.")
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Where the worker's records are kept.")
@speak.json_option
@click.pass_context
def command(context: click.Context, /, environment: str | None, **given: Any) -> None:
    """Run an agent's code on this machine, isolated, with no way out but the ones you allow.

    Serves the sessions of one environment: each gets a fresh sandbox without a network, which goes with everything in
    it when the worker leaves the session. Dials out, and nothing listens here, except with --health. Refuses to start
    if this machine cannot keep what isolation promises, and says what is missing. Prints the worker's name on stdout
    once it is ready, and everything else on stderr. SIGTERM lets running calls finish.

    Every execution and every attempt to reach a host is recorded, here in the state folder and at the relay.

    Examples:
      arrowslit sandbox --environment env_5f0c… --uid-range 2000000000-2000000099
      arrowslit sandbox --environment env_5f0c… --allow-host pypi.org:443 --allow-host '*.pythonhosted.org:443'
      arrowslit sandbox --environment env_5f0c… --allow-degraded memory,cpu,pids
      arrowslit sandbox doctor
      arrowslit sandbox run -- python3 -c 'print(6 * 7)'

    Environment (`arrowslit environment key ENV` prints the first):
      ARROWSLIT_ENVIRONMENT_KEY   what opens the queue (ANTHROPIC_ENVIRONMENT_KEY works too)
      ARROWSLIT_RELAY             the relay: https://host[:port]#sha256=…, or https://api.anthropic.com
      HTTPS_PROXY, NO_PROXY       the proxy on the way to it
      SSL_CERT_FILE               certificates of authorities to trust instead of the system's
    """
    if context.invoked_subcommand is not None:
        return
    if environment is None:
        raise Error("usage", "there is no environment to serve", hint="name one with --environment env_…")
    told = _told(environment, **given)
    told.check()
    logs.to_stderr()
    _work(told, as_json=given["as_json"])


@command.command()
@click.option("--allow", "hosts", multiple=True, metavar="HOST[:PORT]", help="Let the command reach it; or *.SUFFIX.")
@click.option("--allow-private", "private", multiple=True, metavar="HOST[:PORT]", help="The same for a private one.")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="SRC",
    help="Put a copy of this file into the workspace.",
)
@click.option("--timeout", metavar="TIME", help="End the command after this time: 30s, 10m; plain numbers are seconds.")
@_isolation_options
@speak.json_option
@click.argument("words", nargs=-1, required=True, metavar="COMMAND…")
def run(
    words: tuple[str, ...],
    hosts: tuple[str, ...],
    private: tuple[str, ...],
    files: tuple[Path, ...],
    timeout: str | None,
    as_json: bool,
    **walls: Any,
) -> int:
    """Run one command in a fresh sandbox, behind the worker's walls.

    The worker ends a call after 120 s or 1 MiB of output; here --timeout limits the time, and output has the limit only
    with --json, which holds all of it ("ended": "output_limit" when it was cut).

    Streams what it prints and exits with its status: 124 if it took too long, 125 if there can be no sandbox, 126 or
    127 if the command cannot be started, 128 + n if signal n ended it; with 1 or 2 if it was told something wrong, and
    then says so. Its input is empty, its folder is /workspace, which goes with the sandbox.

    Examples:
      arrowslit sandbox run -- python3 -c 'print(6 * 7)'
      arrowslit sandbox run --file stock.csv --timeout 10s -- wc -l stock.csv
      arrowslit sandbox run --allow pypi.org:443 --json -- curl -sSI https://pypi.org

    Environment: nothing of it is handed to the command.
    """
    from arrowslit.app.sandbox_run import RunConfig, run
    from arrowslit.sandbox.isolation.isolation import MIB

    rules = _rules(hosts, private)
    told = RunConfig(
        argv=words,
        isolation=_isolation(**walls),
        rules=rules,
        files=files,
        timeout=_seconds(timeout),
        max_output=MIB if as_json else None,
    )
    if told.isolation.kind == "none" and rules:
        raise Error("usage", "without isolation every host can be reached", hint="leave --allow away")
    kept: list[Output] = []
    if as_json:
        ran = asyncio.run(run(told, kept.append))
    else:
        ran = asyncio.run(run(told, _Screen().show))
    status = _status(ran)
    if as_json:
        speak.answer(_data(ran, kept, status), (), as_json=True)
    else:
        for line in _remarks(ran):
            speak.note(line)
    return status


@command.command()
@_isolation_options
@speak.json_option
def doctor(as_json: bool, **walls: Any) -> int:
    """Say what isolation keeps on this machine, and what is missing.

    Starts a probe sandbox and looks at it from the inside, as the worker does when it starts. Exits with 1 if the
    worker would refuse to start with the same options.

    Examples:
      arrowslit sandbox doctor --uid-range 2000000000-2000000099
      arrowslit sandbox doctor --allow-degraded memory,cpu,pids --json

    Environment: PATH, where bubblewrap is looked for.
    """
    from arrowslit.app.sandbox_run import doctor

    try:
        report = asyncio.run(doctor(_isolation(**walls)))
    except Error as error:
        if error.code != "sandbox_unavailable":
            raise
        return _ill(error, as_json=as_json)
    speak.answer({"ok": True, **report.record()}, _findings(report), as_json=as_json)
    return 0


# ---------------------------------------------------------------- what was given


def _told(
    environment: str,
    *,
    relay: str | None,
    state: Path | None,
    hosts: Sequence[str],
    private: Sequence[str],
    capacity: int,
    idle: str,
    health: str | None,
    as_json: bool,
    **walls: Any,
) -> config.SandboxConfig:
    home = config.default_state()
    where = config.relay_address(home) if relay is None else config.parse_relay(relay)
    return config.SandboxConfig(
        environment=_environment(environment),
        key=config.environment_key(),
        relay=where,
        state=state or home / "sandboxes" / environment,
        capacity=capacity,
        isolation=_isolation(**walls),
        rules=_rules(hosts, private),
        idle=options.seconds(idle),
        health=None if health is None else config.parse_listen(health),
        proxy=config.proxy_for(where),
    )


def _environment(text: str) -> str:
    from arrowslit.ids import is_id

    if not is_id("env", text) or not text.isascii() or not text.replace("_", "").isalnum():
        raise Error("usage", f"{text!r} is not the id of an environment", hint="see: arrowslit environment list")
    return text


def _isolation(
    *, kind: Literal["bubblewrap", "none"], no_walls: bool, degraded: Sequence[str], uid_range: str | None
) -> config.IsolationConfig:
    if kind == "none" and not no_walls:
        raise Error(
            "usage",
            "without isolation code runs as you, with your files, your network and your credentials",
            hint=f"on a machine that is itself the sandbox, say so: {DANGER}",
        )
    return config.IsolationConfig(
        kind=kind,
        uids=None if uid_range is None else config.parse_uids(uid_range),
        allow_degraded=config.parse_degraded(degraded),
    )


def _rules(hosts: Iterable[str], private: Iterable[str]) -> tuple[Rule, ...]:
    from dataclasses import replace

    from arrowslit.policy.egress import read_rule

    return (*map(read_rule, hosts), *(replace(read_rule(each), allow_private=True) for each in private))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = float(text) if text.isdecimal() else options.seconds(text)
    if not 0 < seconds <= 86400:
        raise Error("usage", f"{text!r} is no time for a command", hint="write 30s, 10m; at most 24h")
    return seconds


# ---------------------------------------------------------------- the worker


def _work(told: config.SandboxConfig, *, as_json: bool) -> None:
    from arrowslit.app.sandbox import work

    def started(found: Sandboxes) -> None:
        report = found.report
        if report.isolation == "none":
            log.warning("there is NO isolation: code runs as this user, and every record says so")
        for feature in report.features:
            if feature.degraded:
                log.warning("best effort, %s: %s", feature.name, feature.kept_by)
        allowed = ", ".join(map(str, told.rules)) or "none"
        log.info("isolation: %s %s; hosts that may be reached: %s", report.isolation, report.version, allowed)
        data = {"worker": found.id, "environment": told.environment, "sandbox": report.record()}
        speak.answer(data, [found.id], as_json=as_json)

    asyncio.run(work(told, started))


# ---------------------------------------------------------------- one command


class _Screen:
    """Passes output on as it comes: bytes to a file or a pipe, and to a terminal nothing that steers it."""

    def __init__(self) -> None:
        self._write = {"stdout": _writer(sys.stdout), "stderr": _writer(sys.stderr)}

    def show(self, output: Output) -> None:
        """Write a piece."""
        self._write[output.stream](output.data)


def _writer(stream: IO[str]) -> Callable[[bytes], None]:
    if not stream.isatty():
        return partial(_raw, stream)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return lambda data: _plain(stream, decoder.decode(data))


def _raw(stream: IO[str], data: bytes) -> None:
    stream.flush()
    stream.buffer.write(data)  # type: ignore[attr-defined]  # stdout and stderr have one
    stream.flush()


def _plain(stream: IO[str], text: str) -> None:
    stream.write(speak.plain(text, keep="\n\t"))
    stream.flush()


def _status(ran: Ran) -> int:
    from arrowslit.sandbox.isolation.isolation import Why

    if ran.ended.why is Why.DIED:
        raise Error("sandbox_ended", "the sandbox ended around the command", hint="see: arrowslit sandbox doctor")
    return TIMED_OUT if ran.ended.why is Why.TIMEOUT else ran.ended.status


def _data(ran: Ran, kept: Sequence[Output], status: int) -> dict[str, object]:
    ended = ran.ended
    return {
        "status": status,
        "ended": ended.why.value,
        "reason": ended.reason or None,
        "limits": list(ended.limits),
        "seconds": round(ended.seconds, 3),
        "cpu_seconds": round(ended.cpu, 3),
        "memory_bytes": ended.memory,
        "stdout": _text(kept, "stdout"),
        "stderr": _text(kept, "stderr"),
        "egress": [each.record() for each in ran.attempts],
        "sandbox": ran.report.record(),
    }


def _text(kept: Sequence[Output], stream: str) -> str:
    return b"".join(each.data for each in kept if each.stream == stream).decode(errors="replace")


def _remarks(ran: Ran) -> Iterable[str]:
    """What the output and the status do not say."""
    yield from (f"best effort: {name}" for name in ran.report.degraded)
    yield from (_attempt(each) for each in ran.attempts if each.code is not None)
    if ran.ended.why.value not in ("exit", "signal"):
        yield f"ended: {ran.ended.why.value}" + (f", {speak.plain(ran.ended.reason)}" if ran.ended.reason else "")
    if ran.ended.limits:
        yield f"limits that were hit: {', '.join(ran.ended.limits)}"


def _attempt(attempt: Attempt) -> str:
    where = f"{attempt.host}:{attempt.port}" if attempt.host else "something that is no address"
    return f"{where} {attempt.verdict.value}: {attempt.code.value if attempt.code else ''}"


# ---------------------------------------------------------------- the report


def _findings(report: Report) -> Iterable[str]:
    yield f"isolation: {report.isolation} {report.version}".rstrip()
    yield f"machine:   {report.machine}, Linux {report.kernel}"
    width = max(len(each.name) for each in report.features)
    for each in report.features:
        yield f"  {'best effort' if each.degraded else 'kept':11}  {each.name:{width}}  {each.kept_by}"


def _ill(error: Error, *, as_json: bool) -> int:
    """The worker would refuse: why, and what to do about each reason."""
    from arrowslit.sandbox.isolation.missing import HINTS, OTHERWISE

    missing = [(str(name), HINTS.get(str(name), OTHERWISE)) for name in _names(error)]
    if as_json:
        found = [{"feature": name, "hint": hint} for name, hint in missing]
        speak.answer({"ok": False, "missing": found, **speak.failure(error)}, (), as_json=True)
        return 1
    speak.note(speak.plain(error.message))
    for name, hint in missing:
        click.echo(f"  {name}: {hint}", err=True)
    return 1


def _names(error: Error) -> Sequence[object]:
    found = error.details.get("missing")
    return found if isinstance(found, list) else ["start"]
