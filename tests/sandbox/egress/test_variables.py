"""The variables that send programs to the proxy."""

from __future__ import annotations

from arrowslit.policy.egress import read_rules
from arrowslit.sandbox.egress.variables import environment_for_sandbox

PROXY = "http://127.0.0.1:3128"


def test_every_program_finds_the_proxy_in_the_variable_that_it_reads() -> None:
    found = environment_for_sandbox(PROXY, [])
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "npm_config_proxy")

    assert {found[name] for name in names} == {PROXY}
    assert found["NO_PROXY"] == found["no_proxy"] == "localhost,127.0.0.1,::1"


def test_what_a_rule_names_is_reached_through_the_proxy_even_where_it_is_called_localhost() -> None:
    rules = read_rules([{"host": "127.0.0.1", "allow_private": True}, "localhost"])

    assert environment_for_sandbox(PROXY, rules)["no_proxy"] == "::1"
