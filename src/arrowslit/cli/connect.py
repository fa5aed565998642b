"""`arrowslit connect`: the connector."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrowslit.app import config
from arrowslit.cli import logs, speak
from arrowslit.cli.help import Command
from arrowslit.errors import Error
from arrowslit.ids import check_name

if TYPE_CHECKING:
    from arrowslit.app.plan import Plan
    from arrowslit.policy.ceiling import Ceiling

log = logging.getLogger("arrowslit.connect")


@click.command(cls=Command)
@click.option("--target", metavar="TARGET", help="stdio:COMMAND, http(s)://host:port/path, or sse+http(s)://….")
@click.option("--name", metavar="NAME", help="The tunnel to open.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Offer the targets that this TOML file lists, instead of one --target; SIGHUP reads it again.",
)
@click.option("--check", is_flag=True, help="Say whether all of this can be used, and what it offers; start nothing.")
@click.option("--relay", metavar="URL", help="The relay, instead of ARROWSLIT_RELAY.")
@click.option("--allow", multiple=True, metavar="TOOL", help="Let only this tool through, whatever the relay grants.")
@click.option(
    "--ceiling",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Let only the tools and tenants through that this TOML file lists.",
)
@click.option("--pass-env", multiple=True, metavar="NAME", help="Pass this variable to the target; it sees few others.")
@click.option("--python", default=sys.executable, metavar="PATH", help="What runs a target that is one .py file.")
@click.option("--health", metavar="HOST:PORT", help="Serve /healthz, /readyz and /metrics there, on loopback only.")
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Where the connector's key is kept.")
@speak.json_option
def command(
    target: str | None,
    name: str | None,
    file: Path | None,
    check: bool,
    relay: str | None,
    allow: tuple[str, ...],
    ceiling: Path | None,
    pass_env: tuple[str, ...],
    python: str,
    health: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Offer private MCP servers through a tunnel.

    Runs a server or reaches it, dials out to the relay, and stays. Prints the tunnel's id on stdout once the tunnel
    is open, and everything else on stderr. A connection that drops is opened again. SIGTERM lets running calls finish.
    Nothing listens here, except with --health.

    Examples:
      arrowslit connect --name internal-inventory --target stdio:./inventory_mcp.py --pass-env INTERNAL_DB_DSN
      arrowslit connect --name wiki --target http://127.0.0.1:8000/mcp --allow search --health 127.0.0.1:9090
      arrowslit connect --config connector.toml --check

    Environment (`arrowslit tunnel create` prints the first two):
      ARROWSLIT_TUNNEL_TOKEN   what opens the tunnel (CLAUDE_TUNNEL_TOKEN works too)
      ARROWSLIT_RELAY          the relay: https://host[:port]#sha256=…
      HTTPS_PROXY, NO_PROXY    the proxy on the way to it
      SSL_CERT_FILE            certificates of authorities to trust instead of the system's
    """
    home = config.default_state()
    given = config.environment()
    if file is None:
        name = check_name(_asked(target, name), what="tunnel name")
    elif target or name or allow or ceiling or pass_env:
        hint = "write name, command or url, pass_env and ceiling into the file"
        raise Error("usage", "--config stands alone: what is offered is in the file", hint=hint)
    else:
        name = _plan_of(file, given, python).name
    where = config.relay_address(home) if relay is None else config.parse_relay(relay)
    told = config.ConnectConfig(
        target=target or "",
        name=name,
        file=file,
        relay=where,
        token=config.tunnel_token(),
        state=state or home / "connectors" / name,
        allow=allow,
        ceiling=ceiling,
        pass_env=pass_env,
        environment=given,
        python=python,
        health=None if health is None else config.parse_listen(health),
        proxy=config.proxy_for(where),
    )
    if check:
        _check(told, as_json=as_json)
        return
    told.check()
    logs.to_stderr()
    _run(told, as_json=as_json)


def _asked(target: str | None, name: str | None) -> str:
    if target is None or name is None:
        missing = "--target" if target is None else "--name"
        raise Error("usage", f"Missing option '{missing}'", hint="give --target and --name, or --config FILE")
    return name


def _plan_of(file: Path, environment: Mapping[str, str], python: str) -> Plan:
    from arrowslit.app import connector_file  # it brings in what targets are made of

    return connector_file.load(file, environment=environment, python=python)


def _check(told: config.ConnectConfig, *, as_json: bool) -> None:
    """Say what would be offered, without starting or reaching any of it."""
    from arrowslit.app.build.connector import read_plan

    plan = read_plan(told)
    found = [{"name": each.name or plan.name, "target": each.shown, **each.ceiling.summary()} for each in plan.targets]
    rows = [[str(each["name"]), str(each["target"]), str(each["ceiling"])] for each in found]
    lines = [f"tunnel {plan.name}", *speak.table(["TARGET", "WHERE", "CEILING"], rows)]
    speak.answer({"name": plan.name, "targets": found}, lines, as_json=as_json)
    for each in plan.targets:
        if (remark := _remark(each.name, each.ceiling)) is not None:
            speak.note(f"warning: {remark}")


def _run(told: config.ConnectConfig, *, as_json: bool) -> None:
    import uvloop  # these bring in the whole connector

    from arrowslit.app import garbage
    from arrowslit.app.build.connector import Connector
    from arrowslit.app.connect import Opened, connect

    def started(connector: Connector) -> None:
        garbage.seldom()
        for each in connector.server.offers.all():
            if (remark := _remark(each.name, each.ceiling)) is not None:
                log.warning("%s", remark)

    def opened(link: Opened) -> None:
        held = "the tunnel is pinned to this connector's key" if link.pinned else "any key may serve; this one's is"
        log.info("%s, %s", held, link.fingerprint)
        data = {"id": link.tunnel, "name": told.name, "key_fingerprint": link.fingerprint, "pinned": link.pinned}
        speak.answer(data, [link.tunnel], as_json=as_json)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(connect(told, started, opened))


def _remark(target: str | None, ceiling: Ceiling) -> str | None:
    """What an operator may not have meant: a ceiling that lets everything through, or nobody."""
    which = "" if target is None else f"target {target}: "
    if not ceiling.limits:
        where = "--allow TOOL or --ceiling FILE" if target is None else "[targets.ceiling]"
        return f"{which}ceiling: none. Whatever the relay grants passes; limit it with {where}"
    if not ceiling.tenants:
        return f'{which}the ceiling names no tenant, so nobody can call; tenants = ["*"] lets everybody'
    return None
