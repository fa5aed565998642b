from __future__ import annotations

import pytest

from tests.cli.kit import at, invoke
from tests.harness import Relay


def test_an_environment_and_a_key_for_its_workers(relay: Relay) -> None:
    made = invoke("environment", "create", "team-a", "--description", "ours", "--json", **at(relay)).ok().json
    key = invoke("environment", "key", "team-a", "--name", "host-1", "--json", **at(relay)).ok().json
    shown = invoke("environment", "key", made["id"], "--list", **at(relay)).ok().out

    assert (made["config"], made["description"]) == ({"type": "self_hosted"}, "ours")
    assert key["environment_key"].startswith("asl_env_")
    assert key["id"] in shown
    assert key["environment_key"] not in shown


def test_the_list_says_what_waits(relay: Relay) -> None:
    made = invoke("environment", "create", "team-b", "--json", **at(relay)).ok().json

    listed = invoke("environment", "list", **at(relay)).ok().out

    (line,) = [each for each in listed.splitlines() if made["id"] in each]
    assert line.split() == ["team-b", made["id"], "0", "0"]


def test_a_key_is_revoked(relay: Relay) -> None:
    made = invoke("environment", "create", "team-c", "--json", **at(relay)).ok().json
    key = invoke("environment", "key", made["id"], "--json", **at(relay)).ok().json

    assert (
        invoke("environment", "key", made["id"], "--revoke", key["id"], **at(relay))
        .ok()
        .out.strip()
        .endswith("revoked")
    )

    (left,) = invoke("environment", "key", made["id"], "--list", "--json", **at(relay)).ok().json["data"]
    assert left["revoked_at"] is not None


@pytest.mark.parametrize("words", [["key", "nowhere"], ["key", "env_000000000000000000000000"]], ids=" ".join)
def test_an_environment_that_is_not_there(words: list[str], relay: Relay) -> None:
    done = invoke("environment", *words, "--json", **at(relay))

    assert (done.status, done.json["error"]["code"]) == (1, "environment_not_found")
