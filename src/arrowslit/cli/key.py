"""`arrowslit key`: make API keys and registration tokens, and end them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import reach
from arrowslit.clock import SystemClock, rfc3339
from arrowslit.errors import Error
from arrowslit.principal import Scope


@click.group(cls=Group)
def command() -> None:
    """Make API keys and registration tokens, and end them.

    A key invokes the agents that it names, for the tenant that it names; nobody who uses it can say otherwise. A
    backend with a key that mints makes a key for each of its users, good for a day at most. A registration token lets
    connectors make their own tunnels.

    Examples:
      arrowslit key create --agent stock --tenant acme --expires 30d
      arrowslit key create --agent stock --scope mint --scope invoke --name backend
      arrowslit key create --register 'edge-*' --expires 7d

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.option("--agent", "agents", multiple=True, metavar="AGENT", help="An agent that it may invoke. May be repeated.")
@click.option("--tenant", metavar="TENANT", help="Whose data its calls may touch.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; `invoke`, if not given. May be repeated.",
)
@click.option("--register", metavar="PATTERN", help="Make a registration token instead, for tunnels named like this.")
@click.option(
    "--expires", metavar="WHEN", help="When it stops working: 1h, 30d, 2027-01-31T12:00:00Z. Never, if not given."
)
@click.option("--name", metavar="LABEL", help="A label to know it by.")
@speak.json_option
def create(
    agents: tuple[str, ...],
    tenant: str | None,
    scopes: tuple[str, ...],
    register: str | None,
    expires: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Make a key, and print it this once.

    Scopes:
      invoke    ask the agents it names, and call their tools
      confirm   answer whether a tool may run, in sessions of its tenant
      mint      make keys that may do no more than this one, for 24 hours at most; they end with it
      admin     everything, for everybody

    With an administrator's key any of these can be made; with one that mints, --expires is needed, and the tenant is
    its own.

    Examples:
      arrowslit key create --agent stock --tenant acme
      arrowslit key create --agent stock --tenant acme --scope invoke --scope confirm
      arrowslit key create --agent stock --scope mint --scope invoke --name backend
      arrowslit key create --agent stock --tenant acme --expires 1h
      export ARROWSLIT_API_KEY=$(arrowslit key create --agent stock --tenant acme --json | jq -r .key)
      arrowslit key create --register 'edge-*' --expires 7d

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    for_connectors = register is not None
    if for_connectors == bool(agents or scopes) or (for_connectors and tenant is not None):
        raise Error(
            "usage",
            "a key is either for agents, with --agent and --tenant, or for connectors, with --register",
            hint="arrowslit key create --help shows both",
        )
    body: dict[str, object] = {} if register is None else {"register": register}
    body |= {"agents": list(agents)} if agents else {}
    body |= {"scopes": list(scopes)} if scopes else {}
    body |= {field: value for field, value in (("tenant", tenant), ("name", name)) if value is not None}
    if expires is not None:
        body["expires_at"] = rfc3339(_moment(expires))
    with reach().client() as client:
        made = client.post("keys", body=body)
    variable = "ARROWSLIT_API_KEY" if register is None else "ARROWSLIT_TUNNEL_TOKEN"
    lines = [f"{made['id']}, {_for(made)}. It is shown this once:", "", f"  export {variable}={made['key']}", ""]
    speak.answer(made, lines, as_json=as_json)
    if made["type"] == "api_key" and _is_nowhere(made) and not as_json:
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


def _moment(text: str) -> float:
    """A duration from now, or a date and time with its zone, in Unix seconds. Raises Error `usage`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return SystemClock().now() + options.seconds(text)
    if moment.tzinfo is None:
        raise Error("usage", f"{text!r} has no time zone", hint="write a duration (1h, 30d), or 2027-01-31T12:00:00Z")
    return moment.timestamp()


def _is_nowhere(key: dict[str, Any]) -> bool:
    """Whether calls with it are for no tenant. A key that mints need not have one: its keys do."""
    return key["tenant"] is None and not {"admin", "mint"} & set(key["scopes"])


def _for(key: dict[str, Any]) -> str:
    if key["type"] == "registration_token":
        return f"for tunnels named {key['register']}"
    who = "an administrator" if "admin" in key["scopes"] else ", ".join(key["agents"]) or "no agent"
    tenant = f"tenant {key['tenant']}" if key["tenant"] else "any tenant" if "mint" in key["scopes"] else "no tenant"
    may = "" if key["scopes"] in (["admin"], ["invoke"]) else f", to {' and '.join(key['scopes'])}"
    minted = f", minted by {key['minted_by']}" if key["minted_by"] else ""
    return f"for {who}, {tenant}{may}{minted}"


def _until(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at']}"
    return str(key["expires_at"] or "")
