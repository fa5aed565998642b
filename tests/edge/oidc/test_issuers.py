from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from arrowslit.edge.oidc import issuers as module
from arrowslit.edge.oidc import token as tokens
from arrowslit.edge.oidc.fetch import Unreachable, web
from arrowslit.edge.oidc.issuers import AT_MOST, EVERY, KEPT, Issuers, open_issuers
from arrowslit.errors import Error
from arrowslit.principal import Principal, Scope
from tests.edge.oidc.kit import (
    LOGIN,
    NOW,
    Published,
    TurnedClock,
    agent_id,
    claims,
    issuer,
    jwk,
    jwks,
    kept,
    key,
    settle,
    site,
    token,
    until,
)

HERE = "https://login.example.com/keys"
OURS = issuer(jwks_url=HERE)
MINUTE = 60.0


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def published() -> Published:
    return Published(jwk("ES256"))


@pytest_asyncio.fixture
async def issuers(published: Published, clock: TurnedClock) -> AsyncIterator[Issuers]:
    async with kept(OURS, published=published, clock=clock) as found:
        yield found


def somebody(found: Principal | None) -> Principal:
    assert found is not None
    return found


def known(issuers: Issuers) -> bool:
    """Whether the keys are there."""
    try:
        return issuers.principal(token()) is not None
    except Error:
        return False


# ---------------------------------------------------------------- who it is


@pytest.mark.promise("P7")
async def test_a_token_stands_for_a_subject_in_a_tenant(issuers: Issuers) -> None:
    first, again = (somebody(issuers.principal(token(claims(jti=each)))) for each in "ab")

    assert first == again
    assert (first.tenant, first.expires_at) == ("acme", NOW + 630)
    assert first.scopes == {Scope.INVOKE}
    assert first.agents == {"agent_stock"}
    assert first.may_invoke("agent_stock")
    assert not first.may_invoke("agent_mail")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES512", "EdDSA"])
async def test_each_algorithm_is_for_whoever_was_pinned_to_it(algorithm: str, clock: TurnedClock) -> None:
    published = Published(jwk(algorithm))

    async with kept(issuer(jwks_url=HERE, algorithm=algorithm), published=published, clock=clock) as issuers:
        assert issuers.principal(token(algorithm=algorithm)) is not None
        assert issuers.principal(token(algorithm=algorithm, number=1)) is None


def by_secret(digest: str, secret: bytes) -> Any:
    return lambda signed: hmac.digest(secret, signed, digest)


async def test_who_knows_the_public_key_cannot_sign_with_it(clock: TurnedClock) -> None:
    public = key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secrets = [pem, pem.strip(), der, json.dumps(jwk("RS256")).encode(), b""]

    async with kept(issuer(jwks_url=HERE, algorithm="RS256"), published=Published(jwk("RS256")), clock=clock) as found:
        for secret in secrets:
            for algorithm, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
                assert found.principal(token(header={"alg": algorithm}, signature=by_secret(digest, secret))) is None
            assert found.principal(token(header={"alg": "RS256"}, signature=by_secret("sha256", secret))) is None
        assert found.principal(token(algorithm="RS256")) is not None


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "NONE", "", None, ..., ["ES256"], "es256", "HS256", "ES384"])
async def test_a_token_has_no_say_in_the_algorithm(name: object, issuers: Issuers) -> None:  # AUTHN-10
    assert issuers.principal(token(header={"alg": name})) is None  # though it is signed as it should be
    unsigned = token(header={"alg": name}).rpartition(".")[0]
    assert issuers.principal(f"{unsigned}.") is None
    assert issuers.principal(f"{unsigned}.AA") is None


async def test_another_algorithm_of_the_same_key_is_another(clock: TurnedClock) -> None:
    published = Published(jwk("RS256", alg="PS256"), jwk("RS256", "plain") | {"alg": "RS256"})

    async with kept(issuer(jwks_url=HERE, algorithm="PS256"), published=published, clock=clock) as issuers:
        assert issuers.principal(token(algorithm="RS256")) is None
        assert issuers.principal(token(algorithm="RS256", header={"alg": "PS256"})) is None
        assert issuers.principal(token(algorithm="PS256")) is not None


async def test_where_a_header_says_the_keys_are_nobody_looks(clock: TurnedClock) -> None:  # AUTHN-13
    mine = jwk("ES256", "mine", number=9)
    async with site() as ours, site() as evil, web() as fetch:
        url = evil.put("/keys", jwks(mine))
        pinned = issuer(jwks_url=ours.put("/keys", jwks(jwk("ES256"))))
        issuers = Issuers([pinned], agent_id, fetch, clock)
        keeping = asyncio.create_task(issuers.keep_keys())
        await until(lambda: known(issuers))

        injected: list[dict[str, Any]] = [
            {"jku": url},
            {"x5u": url},
            {"jwk": mine},
            {"x5c": ["AAAA"]},
            {"kid": url},
            {"kid": "../../../dev/null"},
            {"kid": "' or 1=1 --"},
            {"kid": "mine\0k1"},
            {"kid": "K1"},
            {"jku": url, "kid": "mine"},
        ]
        for header in injected:
            assert issuers.principal(token(header=header, number=9)) is None, header
        assert issuers.principal(token(header={"jku": url})) is not None  # nor is it believed less for that
        await clock.turn(AT_MOST)
        await until(lambda: len(ours.seen) == 2)  # for the kids that are not known
        keeping.cancel()

    assert evil.seen == []


@pytest.mark.parametrize(
    "name",
    [f"{LOGIN}/", LOGIN[:-1], LOGIN.upper(), f"{LOGIN}evil", f"{LOGIN}#", "https://login.example.com.evil.test/",
     "", None, ..., [LOGIN], {"iss": LOGIN}, True],
)  # fmt: skip
async def test_an_issuer_is_compared_character_by_character(name: object, issuers: Issuers) -> None:  # AUTHN-15
    assert issuers.principal(token(claims(iss=name))) is None


async def test_issuers_may_name_their_keys_alike(clock: TurnedClock) -> None:  # AUTHN-19
    other = issuer(issuer="https://other.example.com", jwks_url=f"{HERE}2", agents=frozenset({"mail"}))
    documents = {HERE: jwks(jwk("ES256")), f"{HERE}2": jwks(jwk("ES256", number=1))}

    async def fetch(url: str) -> bytes:
        return documents[url]

    issuers = Issuers([OURS, other], agent_id, fetch, clock)
    keeping = asyncio.create_task(issuers.keep_keys())
    await settle()
    theirs = claims(iss=other.issuer)

    assert issuers.principal(token(theirs)) is None  # signed by ours
    assert issuers.principal(token(number=1)) is None  # signed by the other
    for _ in range(100):
        mine, another = somebody(issuers.principal(token())), somebody(issuers.principal(token(theirs, number=1)))
        assert mine.agents == {"agent_stock"}
        assert another.agents == {"agent_mail"}
        assert mine.id != another.id
    keeping.cancel()


async def test_agents_are_looked_up_anew_each_time(published: Published, clock: TurnedClock) -> None:
    agents: dict[str, str] = {}
    pinned = issuer(jwks_url=HERE, agents=None, agents_claim="agents")
    issuers = Issuers([pinned], agents.get, published, clock)
    keeping = asyncio.create_task(issuers.keep_keys())
    await settle()
    text = token(claims(agents=["stock", "agent_0"]))

    assert somebody(issuers.principal(text)).agents == frozenset()
    agents["stock"] = "agent_1"
    assert somebody(issuers.principal(text)).agents == {"agent_1"}
    agents.clear()
    assert somebody(issuers.principal(text)).agents == frozenset()
    keeping.cancel()


@pytest.mark.parametrize("changed", [{"aud": "other"}, {"org": ["acme"]}, {"exp": NOW - 31}, {"sub": ""}])
async def test_why_a_signed_token_was_refused_is_said_in_the_log_and_nowhere_else(
    changed: dict[str, Any], issuers: Issuers, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [token(claims(**changed, jti=each)) for each in "abc"]

    assert [issuers.principal(text) for text in texts] == [None] * 3
    said = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert len(said) == 1  # not once for each
    assert said[0].startswith(f"a token of {LOGIN} was refused: ")
    assert not any(text in caplog.text for text in texts)


# ---------------------------------------------------------------- tokens that were seen before


@pytest.mark.promise("P11")
async def test_a_token_ends_though_it_is_remembered(issuers: Issuers, clock: TurnedClock) -> None:
    text = token(claims(exp=NOW + 100))
    assert issuers.principal(text) is not None

    await clock.turn(129)
    assert issuers.principal(text) is not None
    await clock.turn(1)
    assert issuers.principal(text) is None


async def test_a_token_is_checked_once(issuers: Issuers, monkeypatch: pytest.MonkeyPatch) -> None:
    text = token()
    read: list[str] = []
    monkeypatch.setattr(tokens, "read", read.append)

    assert issuers.principal(text) is None  # nothing was read from it
    monkeypatch.undo()
    first = issuers.principal(text)
    monkeypatch.setattr(tokens, "read", read.append)

    assert issuers.principal(text) == first is not None
    assert read == [text]


async def test_a_token_is_remembered_by_all_of_it(issuers: Issuers) -> None:  # AUTHN-19
    text = token(claims(filler="x" * 4000))
    assert issuers.principal(text) is not None

    changed = text[:-5] + ("AAAAA" if text[-5:] != "AAAAA" else "BBBBB")
    assert issuers.principal(changed) is None
    assert issuers.principal(text[:4000]) is None


async def test_only_so_many_tokens_are_remembered(issuers: Issuers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN", 10)

    for number in range(30):
        assert issuers.principal(token(claims(jti=number))) is not None
        assert issuers.principal(token(claims(jti=number), number=1)) is None

    assert len(issuers._known) == 10


@pytest.mark.promise("P11")
async def test_a_key_that_was_taken_back_takes_its_tokens_along(
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    text = token(claims(exp=NOW + 10 * EVERY))
    assert issuers.principal(text) is not None

    published.document = jwks(jwk("ES256", "k2", number=2))
    await clock.turn(EVERY)

    assert issuers.principal(text) is None
    assert issuers.principal(token(header={"kid": "k2"}, number=2)) is not None


async def test_a_key_that_was_replaced_under_its_name_is_replaced(
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    assert issuers.principal(token()) is not None

    published.document = jwks(jwk("ES256", number=2))
    await clock.turn(EVERY)

    assert issuers.principal(token()) is None
    assert issuers.principal(token(number=2)) is not None


async def test_an_issuer_may_take_back_all_of_its_keys(
    issuers: Issuers, published: Published, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    published.document = jwks(jwk("RS256"))
    await clock.turn(EVERY)

    assert issuers.principal(token()) is None
    assert f"{LOGIN} has no key for ES256" in caplog.text


async def test_a_token_too_large_to_be_one_is_not_even_hashed(
    issuers: Issuers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashlib, "sha256", None)

    for text in ("x.y." * 10_000, "a" * 9000, "asl_sk_" + "0" * 49, "", "\u200b", "a.b"):
        assert issuers.principal(text) is None


async def test_whatever_is_sent_is_nobody_and_nothing_worse(issuers: Issuers) -> None:  # AUTHN-02
    good = token()
    texts = ["eyJhbGciOiJub25lIn0..", "..", "ÿ.ÿ.ÿ", "\ud800.a.b", good[:-1], good[1:], good.upper(), f"{good}\u200b"]
    texts += [good.replace(".", "..", 1), ".".join(reversed(good.split("."))), f"Bearer {good}"]

    assert [text for text in texts if issuers.principal(text) is not None] == []


# ---------------------------------------------------------------- the keys


async def test_keys_are_fetched_at_the_start_and_every_five_minutes(
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    assert published.asked == [HERE]

    await clock.turn(EVERY - 1)
    assert len(published.asked) == 1
    await clock.turn(1)
    assert len(published.asked) == 2
    await clock.turn(10 * EVERY)
    assert len(published.asked) == 12


async def test_a_new_key_is_fetched_when_a_token_names_it(
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    await clock.turn(2 * MINUTE)
    published.document = jwks(jwk("ES256"), jwk("ES256", "k2", number=2))
    fresh = token(header={"kid": "k2"}, number=2)

    assert issuers.principal(fresh) is None
    await settle()
    assert issuers.principal(fresh) is not None
    assert len(published.asked) == 2


async def test_a_flood_of_unknown_keys_is_one_question_in_half_a_minute(  # AUTHN-21
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    began = len(published.asked)
    for second in range(120):
        for number in range(20):
            name = token(header={"kid": f"{second}-{number}"}, signature=lambda _: b"\0" * 64)
            assert issuers.principal(name) is None
        await clock.turn(1)

    assert len(published.asked) - began == 120 / AT_MOST


async def test_tokens_that_name_no_key_make_nobody_ask(
    issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    published.document = jwks(jwk("ES256"), jwk("ES256", "k2", number=2))
    await clock.turn(EVERY)
    await clock.turn(AT_MOST)

    assert issuers.principal(token(header={"kid": ...})) is None  # there are two now
    assert issuers.principal(token(claims(iss="https://unknown.example"), header={"kid": "x"})) is None
    assert issuers.principal(token(header={"kid": "x", "alg": "none"})) is None
    await settle()

    assert len(published.asked) == 2


async def test_old_keys_are_good_for_an_hour_without_their_issuer(  # AUTHN-20
    issuers: Issuers, published: Published, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    text = token(claims(exp=NOW + 10 * KEPT))
    published.error = Unreachable("it is on fire")

    await clock.turn(KEPT)
    assert issuers.principal(text) is not None
    assert "could not be fetched: it is on fire; the old ones are good for 55 min more" in caplog.text
    await clock.turn(1)
    for credential in (text, token()):
        with pytest.raises(Error) as refused:
            issuers.principal(credential)
        assert (refused.value.code, refused.value.row.v1) == ("idp_unavailable", 503)
    assert "its tokens are refused now" in caplog.text

    published.error = None
    await clock.turn(AT_MOST)  # what failed is tried again soon
    assert issuers.principal(text) is not None


async def test_a_token_that_comes_before_the_first_keys_is_told_to_come_again(
    published: Published, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    published.error = Unreachable("not up yet")

    async with kept(OURS, published=published, clock=clock) as issuers:
        with pytest.raises(Error) as refused:
            issuers.principal(token())
        assert refused.value.code == "idp_unavailable"
        assert refused.value.row.retryable
        assert issuers.principal(token(claims(iss="https://unknown.example"))) is None
        assert "its tokens are refused until they can be" in caplog.text
        published.error = None
        await clock.turn(AT_MOST)
        assert issuers.principal(token()) is not None


@pytest.mark.parametrize("document", [b"<html>", b'{"keys": 1}', b'{"keys": [], "keys": []}', b""])
async def test_a_document_that_is_no_jwks_takes_no_keys_away(
    document: bytes, issuers: Issuers, published: Published, clock: TurnedClock
) -> None:
    published.document = document
    await clock.turn(EVERY)

    assert issuers.principal(token()) is not None


async def test_what_nobody_thought_of_ends_nothing(
    issuers: Issuers, published: Published, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    published.error = RuntimeError("a defect")
    await clock.turn(EVERY)
    assert "a defect" in caplog.text

    published.error = None
    published.document = jwks(jwk("ES256", number=3))
    await clock.turn(AT_MOST)
    assert issuers.principal(token(number=3)) is not None


async def test_one_issuer_that_hangs_does_not_hold_up_another(clock: TurnedClock) -> None:
    other = issuer(issuer="https://other.example.com", jwks_url=f"{HERE}2")

    async def fetch(url: str) -> bytes:
        if url == HERE:
            await asyncio.Event().wait()
        return jwks(jwk("ES256"))

    issuers = Issuers([OURS, other], agent_id, fetch, clock)
    keeping = asyncio.create_task(issuers.keep_keys())
    await settle()

    assert issuers.principal(token(claims(iss=other.issuer))) is not None
    with pytest.raises(Error):
        issuers.principal(token())
    keeping.cancel()


async def test_opened_they_keep_real_keys_and_closed_they_stop(clock: TurnedClock, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    async with site() as published:
        url = published.put("/keys", jwks(jwk("ES256"), jwk("RS256")))
        async with open_issuers([issuer(jwks_url=url)], agent_id, clock) as issuers:
            await until(lambda: known(issuers))
            assert issuers.principal(token()) is not None
        assert published.seen == ["/keys"]
    assert "passed over, key 2: not for ES256" in caplog.text
