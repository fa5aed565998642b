"""What code in a sandbox may reach: nothing without a rule, and each host in one spelling only."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.errors import Error
from arrowslit.policy.egress import (
    NOTHING,
    Allow,
    Deny,
    Refusal,
    Rule,
    Zone,
    check_addresses,
    decide,
    read_host,
    read_rule,
    read_rules,
    zone_of,
)

RULES = read_rules(["allowed.test", "*.below.test:8443", "93.184.215.14:80", "[2606:2800:21f:cb07::1]:443"])


def refusal(host: str, port: int = 443, rules: tuple[Rule, ...] = RULES) -> Refusal | None:
    """The code with which it is refused, None if it is allowed."""
    verdict = decide(rules, host, port)
    return verdict.code if isinstance(verdict, Deny) else None


def allowed(host: str, port: int = 443, rules: tuple[Rule, ...] = RULES) -> Allow:
    verdict = decide(rules, host, port)
    assert isinstance(verdict, Allow)
    return verdict


# ---------------------------------------------------------------- which hosts and ports


@pytest.mark.promise("P13")
@pytest.mark.parametrize("rules", [NOTHING, read_rules(None), read_rules([])])
def test_without_rules_no_host_may_be_reached(rules: tuple[Rule, ...]) -> None:
    assert refusal("allowed.test", rules=rules) is Refusal.HOST_NOT_ALLOWED


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("allowed.test", 80),
        ("allowed.test", 443),
        ("ALLOWED.Test", 443),
        ("a.below.test", 8443),
        ("b.a.below.test", 8443),
        ("93.184.215.14", 80),
        ("[2606:2800:21f:cb07::1]", 443),
        ("[2606:2800:21F:CB07::1]", 443),
    ],
)
def test_what_a_rule_names_may_be_reached(host: str, port: int) -> None:
    assert allowed(host, port).port == port


@pytest.mark.promise("P13")
@pytest.mark.parametrize(
    ("host", "port", "code"),
    [
        ("evil.test", 443, Refusal.HOST_NOT_ALLOWED),
        ("sub.allowed.test", 443, Refusal.HOST_NOT_ALLOWED),
        ("allowed.test.evil.test", 443, Refusal.HOST_NOT_ALLOWED),
        ("notallowed.test", 443, Refusal.HOST_NOT_ALLOWED),
        ("below.test", 8443, Refusal.HOST_NOT_ALLOWED),
        (".below.test", 8443, Refusal.HOST_INVALID),
        ("evilbelow.test", 8443, Refusal.HOST_NOT_ALLOWED),
        ("a.below.test", 443, Refusal.PORT_NOT_ALLOWED),
        ("allowed.test", 22, Refusal.PORT_NOT_ALLOWED),
        ("93.184.215.14", 443, Refusal.PORT_NOT_ALLOWED),
        ("93.184.215.15", 80, Refusal.LITERAL_NOT_ALLOWED),
        ("169.254.169.254", 80, Refusal.LITERAL_NOT_ALLOWED),
        ("[::1]", 443, Refusal.LITERAL_NOT_ALLOWED),
        ("allowed.test.", 443, Refusal.HOST_INVALID),
        ("allowed..test", 443, Refusal.HOST_INVALID),
        ("", 443, Refusal.HOST_INVALID),
        ("allowed.test@evil.test", 443, Refusal.HOST_INVALID),
        ("allowed.test\0.evil.test", 443, Refusal.HOST_INVALID),
        ("аllowed.test", 443, Refusal.HOST_INVALID),  # the first letter is Cyrillic
        ("allowed。test", 443, Refusal.HOST_INVALID),
        ("xn--llowed-2ve.test", 443, Refusal.HOST_NOT_ALLOWED),
    ],
)
def test_what_no_rule_names_may_not_be_reached(host: str, port: int, code: Refusal) -> None:
    assert refusal(host, port) is code


SPELLINGS_OF_LOOPBACK = [
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.01",
    "0", "①②⑦.0.0.1", "127。0。0。1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "::1",
    "[::1%lo]", "[127.0.0.1]", "127.0.0.1.",
]  # fmt: skip


@pytest.mark.promise("P13")
@pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
def test_an_address_in_any_other_spelling_is_refused_even_where_it_is_allowed(host: str) -> None:
    rules = read_rules([{"host": each, "ports": [443], "allow_private": True} for each in ("127.0.0.1", "[::1]")])

    assert refusal("127.0.0.1", rules=rules) is refusal("[::1]", rules=rules) is None
    assert refusal(host, rules=rules) is Refusal.HOST_INVALID


@given(st.text(alphabet="0123456789abcdefx.:[]%-_", max_size=20))
def test_whatever_a_resolver_would_take_for_an_address_is_read_as_that_address_or_refused(text: str) -> None:
    host = read_host(text)
    if host is None or "_" in host:
        return
    try:
        taken = socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)[0][4][0]
    except (OSError, UnicodeError):
        return
    assert taken == host


def test_no_ports_means_the_usual_two_and_an_empty_list_means_none() -> None:
    assert read_rule("a.test").ports == {80, 443}
    assert refusal("a.test", 443, (read_rule({"host": "a.test", "ports": []}),)) is Refusal.PORT_NOT_ALLOWED


def test_a_refusal_names_the_ports_that_would_do() -> None:
    verdict = decide(RULES, "a.below.test", 443)

    assert isinstance(verdict, Deny)
    assert "8443" in verdict.hint


# ---------------------------------------------------------------- which addresses


@pytest.mark.parametrize(
    ("zone", "addresses"),
    [
        (Zone.PUBLIC, ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"]),
        (
            Zone.PRIVATE,
            ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1",
             "::1", "fd00::1", "64:ff9b::7f00:1"],
        ),
        (
            Zone.METADATA,
            ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fe80::1",
             "fe80::1%lo", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"],
        ),
        (
            Zone.NOWHERE,
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "192.0.0.8", "::", "::127.0.0.1", "::ffff:127.0.0.1",
             "::ffff:8.8.8.8", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "ff02::1", "64:ff9b:1::1", "nonsense"],
        ),
    ],
)  # fmt: skip
def test_an_address_is_what_it_is_for(zone: Zone, addresses: list[str]) -> None:
    assert {zone_of(address) for address in addresses} == {zone}


@pytest.mark.promise("P13")
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:10.0.0.1"])
def test_a_name_that_leads_inside_is_refused_unless_that_was_said(address: str) -> None:
    deny = check_addresses(allowed("allowed.test"), [address])

    assert deny is not None
    assert (deny.code, deny.address) == (Refusal.ADDRESS_NOT_ALLOWED, address)
    assert address not in deny.message  # what a name leads to inside is nothing that code in a sandbox has to know


def test_one_private_address_among_public_ones_refuses_all() -> None:
    deny = check_addresses(allowed("allowed.test"), ["93.184.215.14", "10.0.0.1"])

    assert deny is not None
    assert deny.address == "10.0.0.1"


@pytest.mark.parametrize(
    ("host", "address", "passes"),
    [
        ("db.corp.test", "10.0.0.1", True),
        ("db.corp.test", "93.184.215.14", True),
        ("db.corp.test", "169.254.169.254", False),  # a wildcard is not a name: whoever may add one could lead it there
        ("metadata.test", "169.254.169.254", True),
        ("metadata.test", "0.0.0.0", False),
        ("10.0.0.9", "10.0.0.9", True),
        ("10.0.0.8", "10.0.0.8", False),
    ],
)
def test_private_is_allowed_by_name_and_metadata_by_exact_name_only(host: str, address: str, passes: bool) -> None:
    private = [{"host": each, "allow_private": True} for each in ("*.corp.test", "metadata.test", "10.0.0.9")]
    rules = read_rules([*private, "10.0.0.8"])

    assert (check_addresses(allowed(host, rules=rules), [address]) is None) is passes


# ---------------------------------------------------------------- rules as they are written


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("pypi.org", "pypi.org:80,443"),
        ("PyPI.org:443", "pypi.org:443"),
        ("*.pythonhosted.org:443,8443", "*.pythonhosted.org:443,8443"),
        ("bücher.example:443", "xn--bcher-kva.example:443"),
        ("*.bücher.example:443", "*.xn--bcher-kva.example:443"),
        ("[::1]:8080", "[::1]:8080"),
        ({"host": "db.corp.test", "ports": [5432], "allow_private": True}, "db.corp.test:5432 private"),
    ],
)
def test_a_rule_is_read_as_it_is_meant(value: object, shown: str) -> None:
    assert str(read_rule(value)) == shown


@pytest.mark.parametrize(
    "value",
    [
        "", "*", "*.", "**.a.test", "a.*.test", "a*.test", "*a.test", "a.test.", ".a.test", "*.127.0.0.1", "127.1",
        "0x7f.1", "[::ffff:10.0.0.1]", "a.test:0", "a.test:65536", "a.test:x", "a.test:", "http://a.test", "a.test/x",
        "user@a.test", "straße.example", "①②⑦.0.0.1", "a test", 7, None, [], {"host": "a.test", "port": 443},
        {"ports": [443]}, {"host": "a.test", "ports": 443}, {"host": "a.test", "ports": ["443"]},
        {"host": "a.test", "ports": [True]}, {"host": "a.test", "allow_private": "yes"}, {"host": "a.test:443"},
    ],
)  # fmt: skip
def test_a_rule_that_could_be_meant_in_two_ways_is_none(value: object) -> None:
    with pytest.raises(Error) as refused:
        read_rule(value)

    assert refused.value.code == "egress_invalid"


def test_rules_are_a_list() -> None:
    with pytest.raises(Error, match="egress_invalid"):
        read_rules("pypi.org")
