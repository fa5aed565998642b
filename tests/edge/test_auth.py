from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.credential import CredentialKind, encode
from arrowslit.edge.auth import Identities, WrongCredentials, authenticate
from arrowslit.edge.oidc.issuers import Issuers
from arrowslit.errors import Error
from arrowslit.principal import Scope, Tenant
from arrowslit.store.open import Store
from arrowslit.tunnel import Headers
from tests.edge.oidc.kit import Published, TurnedClock, claims, issuer, jwk, kept, token
from tests.store.kit import HOUR, ManualClock, opened

JWKS = "https://login.example.com/keys"
UNKNOWN = encode(CredentialKind.API_KEY, bytes(32))
ELSEWHERE = "192.0.2.1"
ACME = Tenant("acme")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock) as store:
        yield store


@pytest.fixture
def wrong(clock: ManualClock) -> WrongCredentials:
    return WrongCredentials(clock)


def bearer(credential: str) -> list[tuple[str, str]]:
    return [("host", "relay"), ("authorization", f"Bearer {credential}")]


def refusal(headers: Headers, store: Store, wrong: WrongCredentials, *, query: str = "", address: str = "") -> Error:
    with pytest.raises(Error) as refused:
        authenticate(headers, store.grants, wrong, query=query, address=address)
    return refused.value


@pytest.mark.promise("P7")
async def test_a_key_is_its_principal_in_either_header(store: Store, wrong: WrongCredentials) -> None:
    key, text = await store.keys.create(scopes={Scope.INVOKE}, agents={"agent_a"}, tenant=ACME)

    for headers in (bearer(text), [("authorization", f"bearer  {text} ")], [("x-api-key", text)]):
        principal = authenticate(headers, store.grants, wrong)
        assert (principal.id, principal.tenant, principal.agents) == (key.id, ACME, frozenset({"agent_a"}))


@pytest.mark.promise("P11")
async def test_whatever_is_wrong_with_a_credential_the_answer_is_the_same(
    store: Store, wrong: WrongCredentials, clock: ManualClock
) -> None:
    good, text = await store.keys.create(scopes={Scope.ADMIN})
    revoked, revoked_text = await store.keys.create(scopes={Scope.ADMIN})
    await store.keys.revoke(revoked.id)
    _, expired_text = await store.keys.create(scopes={Scope.ADMIN}, expires_at=clock.now() + HOUR)
    clock.turn(HOUR)
    await store.tunnels.create("a")
    _, tunnel_token = await store.tunnels.reveal_token("tnl_a")
    _, registration_token = await store.keys.create_registration("*")
    cases: list[Headers] = [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", f"Basic {text}")],
        [("authorization", text)],
        [("cookie", f"key={text}")],
        *(bearer(each) for each in (revoked_text, expired_text, tunnel_token, registration_token, UNKNOWN)),
        *(bearer(each) for each in (text[:-1], text + "A", text.upper(), text + "\u200b", f"{text}, {text}", good.id)),
    ]

    answers = {(error.code, error.message, error.hint) for error in (refusal(case, store, wrong) for case in cases)}

    assert len(answers) == 1
    assert answers.pop()[0] == "unauthenticated"


@pytest.mark.parametrize("others", ["authorization", "x-api-key"])
async def test_two_credentials_are_one_too_many(store: Store, wrong: WrongCredentials, others: str) -> None:
    _, text = await store.keys.create(scopes={Scope.ADMIN})

    for headers in (
        [*bearer(text), (others, UNKNOWN)],
        [(others, UNKNOWN), *bearer(text)],
        bearer(text) + bearer(text),
    ):
        assert refusal(headers, store, wrong).code == "header_ambiguous"


@pytest.mark.parametrize(
    "name", ["api_key", "key", "token", "access_token", "API-Key", "x-api-key", "%6bey", "authorization"]
)
async def test_a_credential_in_the_url_is_refused_even_beside_a_right_one(
    store: Store, wrong: WrongCredentials, name: str
) -> None:
    _, text = await store.keys.create(scopes={Scope.ADMIN})

    assert refusal(bearer(text), store, wrong, query=f"limit=5&{name}=x").code == "credential_in_url"
    assert refusal(bearer(text), store, wrong, query=f"q={text}").code == "credential_in_url"
    assert text not in str(refusal(bearer(text), store, wrong, query=f"q={text}").__dict__)
    assert authenticate(bearer(text), store.grants, wrong, query="limit=5&page=keys").scopes == {Scope.ADMIN}


async def test_wrong_credentials_from_one_address_are_bounded_and_a_right_one_passes(
    store: Store, wrong: WrongCredentials, clock: ManualClock
) -> None:
    _, text = await store.keys.create(scopes={Scope.ADMIN})

    def codes(count: int, address: str = ELSEWHERE) -> list[str]:
        return [refusal(bearer(UNKNOWN), store, wrong, address=address).code for _ in range(count)]

    assert codes(31) == ["unauthenticated"] * 30 + ["rate_limited"]
    assert refusal(bearer(UNKNOWN), store, wrong, address=ELSEWHERE).details["retry_after"] == pytest.approx(2)
    assert authenticate(bearer(text), store.grants, wrong, address=ELSEWHERE).scopes == {Scope.ADMIN}
    assert codes(1, "192.0.2.2") == ["unauthenticated"]
    clock.turn(2)
    assert codes(2) == ["unauthenticated", "rate_limited"]


async def test_absent_credentials_do_not_count(store: Store, wrong: WrongCredentials) -> None:
    codes = {refusal([], store, wrong, address=ELSEWHERE).code for _ in range(100)}

    assert codes == {"unauthenticated"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"])
async def test_loopback_may_be_wrong_a_thousand_times(store: Store, wrong: WrongCredentials, address: str) -> None:
    codes = [refusal(bearer(UNKNOWN), store, wrong, address=address).code for _ in range(1001)]

    assert codes == ["unauthenticated"] * 1000 + ["rate_limited"]


async def test_all_addresses_of_one_ipv6_network_count_as_one(store: Store, wrong: WrongCredentials) -> None:
    for number in range(30):
        refusal(bearer(UNKNOWN), store, wrong, address=f"2001:db8::{number:x}")

    assert refusal(bearer(UNKNOWN), store, wrong, address="2001:db8::ffff").code == "rate_limited"
    assert refusal(bearer(UNKNOWN), store, wrong, address="2001:db8:0:1::").code == "unauthenticated"


def test_only_so_many_addresses_are_remembered(clock: ManualClock) -> None:
    wrong = WrongCredentials(clock, a_minute=1, capacity=10)

    for number in range(1000):
        wrong.count(f"10.0.{number // 250}.{number % 250}")

    assert len(wrong._buckets) == 10
    with pytest.raises(Error):
        wrong.count("10.0.3.249")


# ---------------------------------------------------------------- tokens beside keys


@pytest_asyncio.fixture
async def issuers() -> AsyncIterator[Issuers]:
    async with kept(issuer(jwks_url=JWKS), published=Published(jwk("ES256")), clock=TurnedClock()) as found:
        yield found


@pytest.mark.promise("P7")
async def test_a_token_is_its_principal_in_either_header(
    store: Store, wrong: WrongCredentials, issuers: Issuers
) -> None:
    key, text = await store.keys.create(scopes={Scope.ADMIN})
    both = Identities(store.grants, issuers)

    for headers in (bearer(token()), [("x-api-key", token())]):
        principal = authenticate(headers, both, wrong)
        assert (principal.tenant, principal.id[:4]) == (ACME, "jwt_")
        assert principal.scopes == {Scope.INVOKE}
    assert authenticate(bearer(text), both, wrong).id == key.id


async def test_where_no_issuer_is_believed_no_token_is(store: Store, wrong: WrongCredentials) -> None:
    assert refusal(bearer(token()), store, wrong).code == "unauthenticated"
    with pytest.raises(Error) as refused:
        authenticate(bearer(token()), Identities(store.grants), wrong)
    assert refused.value.code == "unauthenticated"


async def test_a_wrong_token_is_answered_like_any_wrong_credential_and_counted(  # AUTHN-02, AUTHN-22
    store: Store, wrong: WrongCredentials, issuers: Issuers
) -> None:
    both = Identities(store.grants, issuers)
    texts = [token(number=1), token(claims(aud="other")), token(claims(org="")), "eyJhbGciOiJub25lIn0.e30.", UNKNOWN]
    answers = []
    for text in texts * 7:
        with pytest.raises(Error) as refused:
            authenticate(bearer(text), both, wrong, address=ELSEWHERE)
        answers.append((refused.value.code, refused.value.message, refused.value.hint))

    assert len(set(answers[:30])) == 1
    assert answers[0][0] == "unauthenticated"
    assert answers[30][0] == "rate_limited"
    assert authenticate(bearer(token()), both, wrong, address=ELSEWHERE).tenant == ACME


TENANTS_SAID: list[list[tuple[str, str]]] = [
    [("x-tenant-id", "globex")],
    [("x_tenant_id", "globex")],
    [("x.tenant.id", "globex")],
    [("x-tenant-id", "globex"), ("x-tenant-id", "initech")],
    [("x-tenant", "globex"), ("tenant", "globex")],
    [("forwarded", "for=192.0.2.1;tenant=globex")],
    [("baggage", "tenant=globex")],
    [("x-arrowslit-tenant", "globex"), ("x-arrowslit-principal", "key_admin")],
    [("x-forwarded-user", "root"), ("x-remote-user", "root"), ("remote-user", "root")],
    [("x-scopes", "admin"), ("x-agents", "*")],
    [("cookie", "tenant=globex; key=x")],
    [("proxy-authorization", "Bearer x")],
]


@pytest.mark.promise("P7")
@pytest.mark.parametrize("said", TENANTS_SAID, ids=[f"TEN-02 {said[0][0]}" for said in TENANTS_SAID])
async def test_nothing_else_that_is_sent_says_who_it_is(
    said: list[tuple[str, str]], store: Store, wrong: WrongCredentials, issuers: Issuers
) -> None:
    _, text = await store.keys.create(scopes={Scope.INVOKE}, agents={"agent_a"}, tenant=ACME)
    both = Identities(store.grants, issuers)

    for credential in (text, token()):
        plain = authenticate(bearer(credential), both, wrong)
        assert authenticate([*said, *bearer(credential)], both, wrong) == plain
        assert authenticate([*bearer(credential), *said], both, wrong) == plain
    with pytest.raises(Error) as refused:
        authenticate(said, both, wrong)
    assert refused.value.code == "unauthenticated"


@pytest.mark.parametrize("name", ["id_token", "jwt", "assertion", "page", "q", "next"])
async def test_a_token_in_the_url_is_refused_whatever_it_is_called(  # AUTHN-06
    name: str, store: Store, wrong: WrongCredentials, issuers: Issuers
) -> None:
    both = Identities(store.grants, issuers)
    text = token()

    for query in (f"{name}={text}", f"limit=5&{name}={text}", text, f"{name}={text.rpartition('.')[0]}."):
        with pytest.raises(Error) as refused:
            authenticate(bearer(text), both, wrong, query=query)
        assert refused.value.code == "credential_in_url"
        assert text not in str(refused.value.__dict__)
    assert authenticate(bearer(text), both, wrong, query="limit=5&page=eyJhIjoxfQ.x&q=1.2.3").tenant == ACME


async def test_a_token_that_cannot_be_checked_now_is_not_called_wrong(store: Store, wrong: WrongCredentials) -> None:
    published = Published()
    published.document = b"not up yet"
    async with kept(issuer(jwks_url=JWKS), published=published, clock=TurnedClock()) as issuers:
        both = Identities(store.grants, issuers)
        for _ in range(40):
            with pytest.raises(Error) as refused:
                authenticate(bearer(token()), both, wrong, address=ELSEWHERE)
            assert refused.value.code == "idp_unavailable"
