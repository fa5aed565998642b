"""`arrowslit tunnel`: make tunnels, look at them, renew and end them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import Reach, reach
from arrowslit.clock import SystemClock, rfc3339

if TYPE_CHECKING:
    from arrowslit.client.api import Api


@click.group(cls=Group)
def command() -> None:
    """Make tunnels, look at them, renew and end them.

    A tunnel is a named path out of a private network. A connector opens it with the tunnel's token; the first one that
    does pins it to its own key.

    Examples:
      arrowslit tunnel create internal-inventory
      arrowslit tunnel status internal-inventory

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.argument("name")
@click.option(
    "--key-binding",
    type=click.Choice(["pinned", "none"]),
    default="pinned",
    show_default=True,
    help="`none` lets any connector with the token in, for hosts that keep no state.",
)
@click.option("--tenant-optional", is_flag=True, help="Let callers without a tenant in.")
@speak.json_option
def create(name: str, key_binding: str, tenant_optional: bool, as_json: bool) -> None:
    """Make a tunnel, and print what a connector needs to open it.

    A name is never issued again, not even after the tunnel was archived. A token that nobody uses expires after 24 h.

    Examples:
      arrowslit tunnel create internal-inventory
      arrowslit tunnel create internal-inventory --json | jq -r .token

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    there = reach()
    with there.client() as client:
        body = {"name": name, "key_binding": key_binding, "tenant_optional": tenant_optional}
        made = client.post("tunnels", body=body)
        token = client.post("tunnels", made["id"], "reveal_token")["tunnel_token"]
        _hand_over(client, there, made, token, as_json=as_json)


@command.command("list")
@click.option("--archived", is_flag=True, help="Show archived tunnels too.")
@speak.json_option
def list_(archived: bool, as_json: bool) -> None:
    """List the tunnels, newest first.

    Example:
      arrowslit tunnel list

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = list(client.every("tunnels", query={"include_archived": "true"} if archived else None))
    rows = [[each["name"], each["id"], each["created_at"], _remarks(each)] for each in found]
    speak.answer({"data": found}, speak.table(["NAME", "ID", "CREATED", ""], rows), as_json=as_json)


@command.command()
@click.argument("tunnel")
@speak.json_option
def status(tunnel: str, as_json: bool) -> None:
    """Show who serves a tunnel, and what does not protect it.

    Example:
      arrowslit tunnel status internal-inventory

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = client.get("tunnels", options.tunnel(tunnel), "status")
    speak.answer(found, _status(found), as_json=as_json)


@command.command()
@click.argument("tunnel")
@click.option("--grace", default="1h", show_default=True, help="How long the old token still opens the tunnel.")
@click.option("--revoke", is_flag=True, help="End the old token now, and the connections that were opened with it.")
@speak.json_option
def rotate(tunnel: str, grace: str, revoke: bool, as_json: bool) -> None:
    """Issue a new token. The old one still works for a while, so that no connector has to stop.

    If the old token may be in wrong hands, use --revoke.

    Examples:
      arrowslit tunnel rotate internal-inventory --grace 10m
      arrowslit tunnel rotate internal-inventory --revoke

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    body = {"revoke": True} if revoke else {"grace_seconds": options.seconds(grace)}
    there = reach()
    with there.client() as client:
        tunnel_id = options.tunnel(tunnel)
        token = client.post("tunnels", tunnel_id, "rotate_token", body=body)["tunnel_token"]
        _hand_over(client, there, client.get("tunnels", tunnel_id), token, as_json=as_json)


@command.command()
@click.argument("tunnel")
@click.option("--fingerprint", metavar="sha256:HEX", help="Approve this key and no other.")
@speak.json_option
def approve(tunnel: str, fingerprint: str | None, as_json: bool) -> None:
    """Pin the tunnel to the connector key that was refused last.

    Compare its fingerprint first with what the new connector printed: whoever holds it serves the tunnel from now on,
    and the connector with the old key no longer does.

    Example:
      arrowslit tunnel approve internal-inventory --fingerprint sha256:…

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        tunnel_id = options.tunnel(tunnel)
        refused = fingerprint or client.get("tunnels", tunnel_id, "status")["refused_key"]
        body = {} if refused is None else {"fingerprint": refused}
        found = client.post("tunnels", tunnel_id, "approve", body=body)
    said = f"{found['name']} is now pinned to {speak.plain(str(refused))}"
    speak.answer({**found, "connector_key": refused}, [said], as_json=as_json)


@command.command()
@click.argument("tunnel")
@speak.json_option
def archive(tunnel: str, as_json: bool) -> None:
    """End a tunnel for good. Its connections are closed, and its name is never issued again.

    Example:
      arrowslit tunnel archive internal-inventory

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = client.post("tunnels", options.tunnel(tunnel), "archive")
    speak.answer(found, [f"{found['name']} ({found['id']}) is archived"], as_json=as_json)


def _hand_over(client: Api, there: Reach, tunnel: dict[str, Any], token: str, *, as_json: bool) -> None:
    """Print what a connector needs, to be copied to its machine."""
    relay = f"{there.relay.origin}#sha256={client.get('relay')['fingerprint']}"
    data = {"id": tunnel["id"], "name": tunnel["name"], "token": token, "relay": relay}
    lines = [
        f"{tunnel['name']} ({tunnel['id']}). Beside the private server, run:",
        "",
        f"  export ARROWSLIT_TUNNEL_TOKEN={token}",
        f"  export ARROWSLIT_RELAY={relay}",
        f"  arrowslit connect --name {tunnel['name']} --target stdio:./server.py",
        "",
    ]
    speak.answer(data, lines, as_json=as_json)
    if there.relay.is_loopback and not as_json:
        speak.note("this address of the relay is good on this machine only; elsewhere give its public name instead")


def _status(found: dict[str, Any]) -> Iterator[str]:
    state = "archived" if found["archived_at"] else "connected" if found["connected"] else "not connected"
    yield f"{found['name']} ({found['id']}): {state}"
    yield f"  last seen      {found['last_seen'] or 'never since the relay started'}"
    yield f"  reconnects     {found['reconnects']}"
    yield f"  connector key  {found['connector_key'] or 'none yet: the first to connect is pinned'}"
    yield f"  token          generation {found['token']['generation']}, {_token(found['token'])}"
    for each in found["certificates"]:
        yield f"  certificate    sha256 {each['fingerprint']}, until {each['expires_at']}: kept, and not enforced"
    yield from connectors_of(found["connectors"], found["name"])
    yield from (f"warning: {speak.plain(text)}" for text in _warnings(found))


def _token(token: dict[str, Any]) -> str:
    if token["used_at"]:
        return f"used first at {token['used_at']}"
    return f"unused, expires at {token['expires_at']}"


def _warnings(found: dict[str, Any]) -> Iterator[str]:
    if found["refused_key"]:
        yield f"another connector key was refused: {found['refused_key']}; if it is yours: arrowslit tunnel approve"
    if found["key_binding"] == "none":
        yield "key binding is off: whoever holds the token can serve this tunnel"
    if found["tenant_optional"]:
        yield "callers without a tenant are let in"
    if (found["token"]["previous_until"] or "") > rfc3339(SystemClock().now()):  # one form, so it sorts as text
        yield f"the token before this one still works until {found['token']['previous_until']}"


def connectors_of(connectors: list[dict[str, Any]], tunnel: str) -> Iterator[str]:
    """Who serves the tunnel, and which servers they let everything through to."""
    unlimited: list[str] = []
    for each in connectors:
        yield f"  connector      {speak.plain(each['connector'])}, since {each['connected_since']}"
        yield f"    key {each['key_fingerprint']}, certificate binding {each['certificate_binding']}"
        yield f"    round trip {each['round_trip_ms']} ms, {speak.several(each['streams'], 'stream')}"
        yield f"    {speak.plain(each.get('software') or 'unknown software')}"
        if not each["targets"]:
            yield f"    ceiling {speak.plain(each.get('ceiling', 'unknown'))}"
            unlimited += [tunnel] if each.get("ceiling") == "none" else []
        for target in each["targets"]:
            yield f"    serves {speak.plain(target['name'])}, ceiling {speak.plain(target['ceiling'])}"
            unlimited += [target["name"]] if target["ceiling"] == "none" else []
    if unlimited:
        names = speak.plain(", ".join(dict.fromkeys(unlimited)))
        yield f"warning: ceiling: none. A connector lets through whatever this relay grants of {names}"


def _remarks(tunnel: dict[str, Any]) -> str:
    remarks = ["archived"] if tunnel["archived_at"] else []
    remarks += ["tenant optional"] if tunnel["tenant_optional"] else []
    remarks += ["key binding: none"] if tunnel["key_binding"] == "none" else []
    return ", ".join(remarks)
