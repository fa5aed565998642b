"""`arrowslit serve`: the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from arrowslit import __version__
from arrowslit.app import config
from arrowslit.cli import logs, speak
from arrowslit.cli.help import Command


@click.command(cls=Command)
@click.option(
    "--listen", metavar="HOST:PORT", default=config.DEFAULT_LISTEN, show_default=True, help="Where to listen."
)
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="Where keys, database and ledger are kept."
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate chain to serve TLS with."
)
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="The key of that certificate.")
@click.option(
    "--public-cert",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The certificate of what ends TLS in front of this relay, if connectors see another than --tls-cert.",
)
@click.option(
    "--behind-proxy",
    "proxies",
    multiple=True,
    metavar="CIDR",
    help="A proxy in this network ends TLS; its X-Forwarded-For is believed. May be repeated.",
)
@click.option(
    "--tunnel-domain",
    metavar="NAME",
    default=config.TUNNEL_DOMAIN,
    show_default=True,
    help="Servers and tunnels have their host names below it: https://SERVER.NAME/mcp.",
)
@click.option("--database", metavar="URL", help="Another database than SQLite in the state folder.")
@click.option(
    "--ledger-sync",
    type=click.Choice(["soon", "always"]),
    default="soon",
    show_default=True,
    help="Whether a call waits until its record is on disk; `soon` is within 50 ms.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="What thinks for agents: anthropic, the URL of a server that speaks the Messages API, scripted,"
    " scripted:FILE, or obedient (for tests). Without it agents cannot be asked; their tools can be called.",
)
@click.option(
    "--oidc",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Believe tokens (JWT) of the issuers in this TOML file, beside API keys.",
)
@speak.json_option
def command(
    listen: str,
    state: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    public_cert: Path | None,
    proxies: tuple[str, ...],
    tunnel_domain: str,
    database: str | None,
    ledger_sync: str,
    model: str | None,
    oidc: Path | None,
    as_json: bool,
) -> None:
    """Run the relay.

    It ends tunnels, offers MCP endpoints and serves the API. It listens on loopback unless told otherwise, and beyond
    it only with TLS. The first administrator's key is written to STATE/admin.key, where the other commands on this
    machine find it. SIGTERM lets running calls finish.

    Examples:
      arrowslit serve
      arrowslit serve --listen 0.0.0.0:443 --tls-cert relay.pem --tls-key relay.key
      arrowslit serve --listen 10.0.0.5:8420 --behind-proxy 10.0.0.0/24
      arrowslit serve --model anthropic
      arrowslit serve --oidc issuers.toml

    Environment:
      XDG_STATE_HOME        the state is in its folder arrowslit (for root: /var/lib/arrowslit)
      ARROWSLIT_MODEL_KEY   the key of the model's server, or its file in ARROWSLIT_MODEL_KEY_FILE; else
                            ANTHROPIC_API_KEY
    """
    told = config.RelayConfig(
        listen=config.parse_listen(listen),
        state=state or config.default_state(),
        tls_cert=tls_cert,
        tls_key=tls_key,
        public_cert=public_cert,
        proxies=tuple(map(config.parse_network, proxies)),
        tunnel_domain=config.parse_domain(tunnel_domain),
        database=database,
        ledger_sync="always" if ledger_sync == "always" else "soon",
        model=model,
        model_key=None if model is None else config.model_key(),
        issuers=() if oidc is None else config.read_issuers(oidc),
    )
    told.check()
    logs.to_stderr()
    _run(told, as_json=as_json)


def _run(told: config.RelayConfig, *, as_json: bool) -> None:
    import uvloop  # these bring in the whole relay

    from arrowslit.app import address, garbage
    from arrowslit.app.build.relay import Relay
    from arrowslit.app.serve import serve

    def ready(relay: Relay, listen: config.Listen) -> None:
        near = address.for_this_machine(told, listen, relay.fingerprint)
        far = address.for_connectors(told, listen, relay.fingerprint)
        data = {
            "listen": f"{near.scheme}://{listen}",
            "relay": None if far is None else str(far),
            "fingerprint": relay.fingerprint,
            "state": str(told.state),
            "admin_key": str(relay.admin_key_path.absolute()),
            "version": __version__,
        }
        speak.answer(data, _welcome(data, told, str(near)), as_json=as_json)
        garbage.seldom()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(told, ready))


def _welcome(data: dict[str, str | None], told: config.RelayConfig, near: str) -> Iterator[str]:
    yield f"arrowslit {__version__} listens on {data['listen']}"
    yield f"  admin key   {data['admin_key']}"
    relay = data["relay"] or f"https://YOUR-PUBLIC-NAME#sha256={data['fingerprint']}"
    yield f"  relay       {relay}"
    yield ""
    yield "next, in another terminal:"
    if told.state != config.default_state():
        yield f"  export ARROWSLIT_RELAY={near}"
        yield f"  export ARROWSLIT_API_KEY_FILE={data['admin_key']}"
    yield "  arrowslit tunnel create NAME"
