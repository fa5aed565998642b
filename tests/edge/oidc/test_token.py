from __future__ import annotations

import json
from typing import Any

import pytest

from arrowslit.edge.oidc import token as tokens
from arrowslit.edge.oidc.token import TokenRefused, judge, read
from tests.edge.oidc.kit import NOW, claims, issuer, part, token

HOUR = 3600


def refused(said: dict[str, Any], **changed: Any) -> str:
    with pytest.raises(TokenRefused) as found:
        judge(said, issuer(**changed), NOW)
    return str(found.value)


# ---------------------------------------------------------------- taking it apart


def test_a_token_is_taken_apart_and_nothing_in_it_is_believed() -> None:
    found = read(token())

    assert found is not None
    assert (found.algorithm, found.kid, found.issuer) == ("ES256", "k1", "https://login.example.com/")
    assert found.signed == token().rpartition(".")[0].encode()
    assert len(found.signature) == 64


HEADERS: list[tuple[str, dict[str, Any]]] = [
    ("AUTHN-12 an extension that must be understood", {"crit": ["x"], "x": 1}),
    ("AUTHN-12 an empty list of them", {"crit": []}),
    ("AUTHN-12 an unencoded payload", {"b64": False, "crit": ["b64"]}),
    ("AUTHN-12 a compressed payload", {"zip": "DEF"}),
    ("AUTHN-12 an unencoded payload, not said to be critical", {"b64": False}),
    ("AUTHN-13 a kid that is no text", {"kid": 1}),
    ("AUTHN-13 a kid that is a list", {"kid": ["k1"]}),
    ("AUTHN-13 a kid that is null", {"kid": None}),
    ("AUTHN-13 an empty kid", {"kid": ""}),
    ("AUTHN-13 a very long kid", {"kid": "k" * 257}),
    ("AUTHN-18 a logout token", {"typ": "logout+jwt"}),
    ("AUTHN-18 a DPoP proof", {"typ": "dpop+jwt"}),
    ("AUTHN-18 a type that is no text", {"typ": 1}),
]


@pytest.mark.parametrize("header", [each for _, each in HEADERS], ids=[name for name, _ in HEADERS])
def test_a_header_that_asks_for_more_than_a_signature_is_refused(header: dict[str, Any]) -> None:
    assert read(token(header=header)) is None


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", ...])
def test_access_tokens_have_one_of_these_types_or_none(kind: object) -> None:
    assert read(token(header={"typ": kind})) is not None


def test_what_is_no_token_is_refused() -> None:
    good = token()
    head, body, signature = good.split(".")
    cases = [
        "",
        "..",
        "a.b.c",
        f"{head}.{body}",
        f"{head}.{body}.",
        f".{body}.{signature}",
        f"{good}.{signature}",
        f"{good} ",
        f"{good}\n",
        f"{good}=",
        f"{head}.{body}.{signature[:-1]}!",
        f"{head}+.{body}.{signature}",
        good.replace(".", "\u2024"),
        f"{part([1])}.{body}.{signature}",
        f"{head}.{part('text')}.{signature}",
        f"{head}.{part(b'not json')}.{signature}",
        f"{head}.{part(json.dumps(claims()).encode('utf-16'))}.{signature}",
        f"{head}.{part(b'[' * 5000)}.{signature}",
        f"{part(b'[' * 2000)}.{body}.{signature}",
    ]

    assert [each for each in cases if read(each) is not None] == []


def test_two_readers_cannot_take_one_token_for_two() -> None:
    twice = b'{"alg": "none", "kid": "k1", "alg": "ES256"}'
    tenants = json.dumps(claims()).encode()[:-1] + b', "org": "globex"}'
    escaped = json.dumps(claims()).encode()[:-1] + b', "\\u006frg": "globex"}'
    nested = json.dumps(claims()).encode()[:-1] + b', "x": {"a": 1, "a": 2}}'
    _, body, signature = token().split(".")

    assert read(f"{part(twice)}.{body}.{signature}") is None
    assert [read(token(each)) for each in (tenants, escaped, nested)] == [None] * 3
    assert read(token(json.dumps(claims()).encode()[:-1] + b', "x": NaN}')) is None


def test_a_signature_has_one_spelling() -> None:
    good = token(signature=lambda _: b"\0" * 64)  # 64 bytes end in a character of which four bits mean nothing

    assert good.endswith("A")
    assert read(good) is not None
    assert read(good[:-1] + "B") is None


def test_a_token_has_a_bounded_size() -> None:
    assert read(token(claims(x="x" * 5000))) is not None
    assert read(token(claims(x="x" * tokens.MAX_TOKEN))) is None


# ---------------------------------------------------------------- what the claims say


@pytest.mark.promise("P7")
def test_the_claims_say_who_it_is_and_for_how_long() -> None:
    found = judge(claims(), issuer(), NOW)

    assert (found.tenant, found.expires_at) == ("acme", NOW + 600 + 30)
    assert found.agents == {"stock"}
    assert found.id.startswith("jwt_")


def test_an_id_is_the_same_for_all_tokens_of_somebody_and_for_nobody_else() -> None:  # AUTHN-19
    def ids(**changed: Any) -> str:
        name = changed.get("iss", issuer().issuer)
        return judge(claims(**changed), issuer(issuer=name), NOW).id

    assert ids() == ids(exp=NOW + 60, iat=NOW - 60, agents=["mail"])
    others = [
        ids(sub="Ada"),
        ids(sub="ada "),
        ids(iss="https://other.example.com/"),
        ids(org="globex"),
        ids(sub="ada\0acme", org="x"),
        ids(sub='ada","acme'),
        ids(sub="ad", org="aacme"),
    ]
    assert len({ids(), *others}) == len(others) + 1


AUDIENCES: list[object] = [
    "arrowslit2", "Arrowslit", "arrowslit ", " arrowslit", "arrow", "", ..., None, True, 1, {}, [], {"arrowslit": 1},
    ["arrowslit", "evil"], ["evil", "arrowslit"], ["arrowslit", "arrowslit"], [["arrowslit"]], ["evil"],
    "https://relay/tnl_other",
]  # fmt: skip


@pytest.mark.parametrize("audience", AUDIENCES, ids=[f"AUTHN-14 {each!r}" for each in AUDIENCES])
def test_a_token_for_somebody_else_is_not_for_us(audience: object) -> None:
    assert "audience" in refused(claims(aud=audience))


def test_a_list_of_exactly_our_audience_is_ours() -> None:  # AUTHN-14
    assert judge(claims(aud=["arrowslit"]), issuer(), NOW).tenant == "acme"


TIMES: list[tuple[str, dict[str, Any], str]] = [
    ("expired", {"exp": NOW - 30}, "expired"),
    ("no exp", {"exp": ...}, "'exp' is no time"),
    ("exp is text", {"exp": str(NOW + 600)}, "'exp' is no time"),
    ("exp is null", {"exp": None}, "'exp' is no time"),
    ("exp is true", {"exp": True}, "'exp' is no time"),
    ("exp beyond every number", {"exp": json.loads("1e999")}, "'exp' is no time"),
    ("exp in milliseconds", {"exp": (NOW + 600) * 1000}, "'exp' is no time"),
    ("exp below zero", {"exp": -1}, "'exp' is no time"),
    ("exp is huge", {"exp": 10**400}, "'exp' is no time"),
    ("nbf in the future", {"nbf": NOW + 31}, "future"),
    ("nbf is text", {"nbf": "0"}, "'nbf' is no time"),
    ("nbf is null", {"nbf": None}, "'nbf' is no time"),
    ("iat in the future", {"iat": NOW + 600}, "future"),
    ("iat is a list", {"iat": [NOW]}, "'iat' is no time"),
]


@pytest.mark.parametrize(("changed", "said"), [each[1:] for each in TIMES], ids=[f"AUTHN-16 {n[0]}" for n in TIMES])
def test_a_token_is_good_in_its_time_only(changed: dict[str, Any], said: str) -> None:
    assert said in refused(claims(**changed))


def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:  # AUTHN-16
    assert judge(claims(exp=NOW - 29), issuer(), NOW).expires_at == NOW + 1
    assert judge(claims(nbf=NOW + 30, iat=NOW + 30), issuer(), NOW).tenant == "acme"
    assert "expired" in refused(claims(exp=NOW), leeway=0)
    assert "future" in refused(claims(nbf=NOW + 1), leeway=0)


def test_a_token_may_be_too_old_before_it_has_expired() -> None:
    strict = {"max_age": HOUR, "leeway": 0}

    assert judge(claims(iat=NOW - HOUR + 1), issuer(**strict), NOW).expires_at == NOW + 1
    assert judge(claims(iat=NOW - 1, exp=NOW + 9), issuer(**strict), NOW).expires_at == NOW + 9
    assert "expired" in refused(claims(iat=NOW - HOUR), **strict)
    assert "'iat' is no time" in refused(claims(iat=...), **strict)


@pytest.mark.parametrize("claim", ["nonce", "at_hash", "c_hash"])
def test_an_id_token_is_no_access_token(claim: str) -> None:  # AUTHN-18
    assert "ID token" in refused(claims(**{claim: "x"}))


TENANTS: list[object] = [
    ..., None, "", " ", "acme ", " acme", "acme\n", "acme\0", "ac\u202eme", "ac me", "аcme", "*", "../acme", "a" * 129,
    7, True, [], ["acme"], {"id": "acme"}, {"org": "acme"},
]  # fmt: skip


@pytest.mark.promise("P7")
@pytest.mark.parametrize("tenant", TENANTS, ids=[f"{each!r:.20}" for each in TENANTS])
def test_without_a_tenant_that_is_one_a_token_is_nobody(tenant: object) -> None:
    assert "'org'" in refused(claims(org=tenant, tenant="acme", tenant_id="acme"))


def test_a_tenant_claim_is_a_name_and_no_path() -> None:
    dotted = issuer(tenant_claim="https://example.com/org.id")

    assert judge(claims(**{"https://example.com/org.id": "acme"}), dotted, NOW).tenant == "acme"
    assert "no text" in refused(claims(realm={"org": "acme"}), tenant_claim="realm.org")


@pytest.mark.parametrize("subject", [..., None, "", 7, ["ada"], "a" * 256])
def test_a_token_without_a_subject_is_nobody(subject: object) -> None:
    assert "subject" in refused(claims(sub=subject))


def test_a_claim_may_name_the_agents() -> None:
    named = issuer(agents=None, agents_claim="agents")

    assert judge(claims(agents=["stock", "mail"]), named, NOW).agents == {"stock", "mail"}
    assert judge(claims(agents=[]), named, NOW).agents == frozenset()
    for listed in (..., None, "stock", {"stock": True}, [1], [["stock"]], ["x"] * 257):
        assert "no list of agents" in refused(claims(agents=listed), agents=None, agents_claim="agents")
    assert judge(claims(agents=["mail"]), issuer(), NOW).agents == {"stock"}  # nobody asked for the claim
