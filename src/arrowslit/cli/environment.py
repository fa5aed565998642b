"""`arrowslit environment`: make the queues that sandbox workers serve, and the keys of those workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import reach

if TYPE_CHECKING:
    from arrowslit.client.api import Api


@click.group(cls=Group)
def command() -> None:
    """Make queues for sandbox workers, and keys for them.

    An agent's code runs in an environment: on a machine of yours where a worker takes work from the environment's
    queue. A worker needs the environment's id and a key for it, and nothing else; it dials out.

    Examples:
      arrowslit environment create team-default
      arrowslit environment key team-default

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.argument("name")
@click.option("--description", metavar="TEXT", help="What it is for.")
@speak.json_option
def create(name: str, description: str | None, as_json: bool) -> None:
    """Make an environment.

    Example:
      arrowslit environment create team-default

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    body: dict[str, object] = {"name": name, "config": {"type": "self_hosted"}}
    body |= {} if description is None else {"description": description}
    with reach().client() as client:
        made = client.post("environments", body=body)
    lines = [f"{speak.plain(made['name'])} ({made['id']}). For a worker's key: arrowslit environment key {made['id']}"]
    speak.answer(made, lines, as_json=as_json)


@command.command()
@click.argument("environment")
@click.option("--name", metavar="LABEL", help="A label to know the key by.")
@click.option("--revoke", metavar="ID", help="End this key instead.")
@click.option("--list", "listed", is_flag=True, help="List the keys instead, without the keys themselves.")
@speak.json_option
def key(environment: str, name: str | None, revoke: str | None, listed: bool, as_json: bool) -> None:
    """Make a worker's key, and print it this once.

    It serves this environment's queue and opens nothing else.

    Examples:
      arrowslit environment key team-default
      arrowslit environment key team-default --list
      arrowslit environment key team-default --revoke ekey_5f0c…

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = options.environment(client, environment)
        if listed:
            return _list_keys(client, found, as_json=as_json)
        if revoke is not None:
            ended = client.delete("environments", found, "keys", revoke)
            return speak.answer(ended, [f"{ended['id']} is revoked"], as_json=as_json)
        made = client.post("environments", found, "keys", body={} if name is None else {"name": name})
    shown = f"  export ARROWSLIT_ENVIRONMENT_KEY={made['environment_key']}"
    speak.answer(
        made, [f"{made['id']}, a worker's key for {found}. It is shown this once:", "", shown, ""], as_json=as_json
    )
    return None


@command.command("list")
@click.option("--archived", is_flag=True, help="Show archived environments too.")
@speak.json_option
def list_(archived: bool, as_json: bool) -> None:
    """List the environments, newest first, and their queues.

    Example:
      arrowslit environment list

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = list(client.every("environments", query={"include_archived": "true"} if archived else None))
        stats = [client.get("environments", each["id"], "work", "stats") for each in found]
    data = [{**each, "stats": queue} for each, queue in zip(found, stats, strict=True)]
    rows = [
        [each["name"], each["id"], str(each["stats"]["depth"]), str(each["stats"]["workers_polling"])] for each in data
    ]
    speak.answer({"data": data}, speak.table(["NAME", "ID", "WAITING", "WORKERS"], rows), as_json=as_json)


def _list_keys(client: Api, environment: str, *, as_json: bool) -> None:
    found = list(client.every("environments", environment, "keys", query={"include_revoked": "true"}))
    rows = [
        [
            each["id"],
            f"…{each['last_four']}",
            each["name"] or "",
            f"revoked {each['revoked_at']}" if each["revoked_at"] else "",
        ]
        for each in found
    ]
    speak.answer({"data": found}, speak.table(["ID", "ENDS", "NAME", ""], rows), as_json=as_json)
