"""`arrowslit key`: make API keys and registration tokens, and end them."""

from __future__ import annotations

from typing import Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import reach
from arrowslit.clock import SystemClock, rfc3339
from arrowslit.errors import Error


@click.group(cls=Group)
def command() -> None:
    """Make API keys and registration tokens, and end them.

    A key invokes the agents that it names, for the tenant that it names; nobody who uses it can say otherwise. A
    registration token lets connectors make their own tunnels.

    Examples:
      arrowslit key create --agent stock --tenant acme --expires 30d
      arrowslit key create --register 'edge-*' --expires 7d

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.option("--agent", "agents", multiple=True, metavar="AGENT", help="An agent that it may invoke. May be repeated.")
@click.option("--tenant", metavar="TENANT", help="Whose data its calls may touch.")
@click.option("--register", metavar="PATTERN", help="Make a registration token instead, for tunnels named like this.")
@click.option("--expires", metavar="DURATION", help="When it stops working: 12h, 30d. Never, if not given.")
@click.option("--name", metavar="LABEL", help="A label to know it by.")
@speak.json_option
def create(
    agents: tuple[str, ...],
    tenant: str | None,
    register: str | None,
    expires: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Make a key, and print it this once.

    Examples:
      arrowslit key create --agent stock --tenant acme
      export ARROWSLIT_API_KEY=$(arrowslit key create --agent stock --tenant acme --json | jq -r .key)
      arrowslit key create --register 'edge-*' --expires 7d

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    if bool(agents) == (register is not None) or (register is not None and tenant is not None):
        raise Error(
            "usage",
            "a key is either for agents, with --agent and --tenant, or for connectors, with --register",
            hint="arrowslit key create --help shows both",
        )
    body: dict[str, object] = {} if register is None else {"register": register}
    body |= {"agents": list(agents)} if agents else {}
    body |= {field: value for field, value in (("tenant", tenant), ("name", name)) if value is not None}
    if expires is not None:
        body["expires_at"] = rfc3339(SystemClock().now() + options.seconds(expires))
    with reach().client() as client:
        made = client.post("keys", body=body)
    variable = "ARROWSLIT_API_KEY" if register is None else "ARROWSLIT_TUNNEL_TOKEN"
    lines = [f"{made['id']}, {_for(made)}. It is shown this once:", "", f"  export {variable}={made['key']}", ""]
    speak.answer(made, lines, as_json=as_json)
    if agents and tenant is None and not as_json:
        speak.note("without --tenant it gets nowhere but through tunnels made with --tenant-optional")


@command.command("list")
@click.option("--revoked", is_flag=True, help="Show revoked keys too.")
@speak.json_option
def list_(revoked: bool, as_json: bool) -> None:
    """List the keys, newest first, without the keys themselves.

    Example:
      arrowslit key list

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = list(client.every("keys", query={"include_revoked": "true"} if revoked else None))
    rows = [[each["id"], f"…{each['last_four']}", each["name"] or "", _for(each), _until(each)] for each in found]
    speak.answer({"data": found}, speak.table(["ID", "ENDS", "NAME", "FOR", "UNTIL"], rows), as_json=as_json)


@command.command()
@click.argument("key_id", metavar="ID")
@speak.json_option
def revoke(key_id: str, as_json: bool) -> None:
    """End a key now, with everything that runs with it. Its id is in `arrowslit key list`.

    Example:
      arrowslit key revoke key_5f0c…

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = client.delete("keys", key_id)
    speak.answer(found, [f"{found['id']} is revoked"], as_json=as_json)


def _for(key: dict[str, Any]) -> str:
    if key["type"] == "registration_token":
        return f"for tunnels named {key['register']}"
    who = "an administrator" if "admin" in key["scopes"] else ", ".join(key["agents"])
    return f"for {who}, {'tenant ' + key['tenant'] if key['tenant'] else 'no tenant'}"


def _until(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at']}"
    return str(key["expires_at"] or "")
