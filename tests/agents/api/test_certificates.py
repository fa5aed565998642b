from __future__ import annotations

import datetime as dt
from hashlib import sha256

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import ManualClock

EVERY = "/v1/tunnels/tnl_a/certificates"
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: str = "ca", *, ca: bool | None = True, padding: int = 0) -> x509.Certificate:
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(who, who, KEY.public_key(), serial_number=7)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if padding:
        blob = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x" * padding)
        builder = builder.add_extension(blob, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


PRIVATE = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


@pytest_asyncio.fixture(autouse=True)
async def _tunnel(store: Store) -> None:
    await store.tunnels.create("a")


async def test_a_certificate_has_the_official_shape_and_says_that_nobody_enforces_it(admin: Caller) -> None:
    ca = certificate()

    kept = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(ca)})

    assert kept == {
        "id": kept["id"],
        "type": "tunnel_certificate",
        "tunnel_id": "tnl_a",
        "fingerprint": sha256(ca.public_bytes(serialization.Encoding.DER)).hexdigest(),
        "created_at": "2026-11-18T11:06:40.000Z",
        "expires_at": "2036-01-01T00:00:00.000Z",
        "archived_at": None,
        "enforced": False,
        "ca": True,
    }
    assert kept["id"].startswith("tcrt_")
    assert await admin.ok("GET", f"{EVERY}/{kept['id']}") == kept
    assert (await admin.ok("GET", EVERY))["data"] == [kept]
    assert (await admin.ok("GET", "/v1/tunnels/tnl_a/status"))["certificates"] == [kept]


@pytest.mark.parametrize("ca", [False, None])
async def test_a_certificate_that_signs_no_others_is_kept_and_says_so(admin: Caller, ca: bool | None) -> None:
    kept = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(certificate(ca=ca))})

    assert kept["ca"] is False


async def test_a_tunnel_has_two_certificates_at_once(admin: Caller, clock: ManualClock) -> None:
    first = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(certificate("1"))})
    clock.turn(1)
    second = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(certificate("2"))})
    third = {"ca_certificate_pem": pem(certificate("3"))}

    assert await admin.refused("POST", EVERY, third) == (400, "validation_error")
    archived = await admin.ok("POST", f"{EVERY}/{first['id']}/archive")
    assert await admin.ok("POST", f"{EVERY}/{first['id']}/archive") == archived
    clock.turn(1)
    await admin.ok("POST", EVERY, third)

    assert [each["id"] for each in (await admin.ok("GET", EVERY))["data"]][1:] == [second["id"]]
    assert len((await admin.ok("GET", f"{EVERY}?include_archived=true"))["data"]) == 3


async def test_the_same_certificate_again_is_the_same_one(admin: Caller) -> None:
    once = await admin.ok("POST", EVERY, {"ca_certificate_pem": GOOD})

    assert await admin.ok("POST", EVERY, {"ca_certificate_pem": GOOD + "\n"}) == once


async def test_certificates_are_archived_with_their_tunnel(admin: Caller) -> None:
    kept = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(certificate())})

    tunnel = await admin.ok("POST", "/v1/tunnels/tnl_a/archive")

    assert (await admin.ok("GET", f"{EVERY}/{kept['id']}"))["archived_at"] == tunnel["archived_at"]
    assert await admin.refused("POST", EVERY, {"ca_certificate_pem": pem(certificate("2"))}) == (400, "archived")


async def test_a_certificate_is_found_at_its_own_tunnel_only(admin: Caller, store: Store) -> None:
    await store.tunnels.create("b")
    kept = await admin.ok("POST", EVERY, {"ca_certificate_pem": pem(certificate())})

    for path in (f"/v1/tunnels/tnl_b/certificates/{kept['id']}", f"{EVERY}/tcrt_none"):
        assert await admin.refused("GET", path) == (404, "certificate_not_found")
        assert await admin.refused("POST", f"{path}/archive") == (404, "certificate_not_found")
    for path in ("/v1/tunnels/tnl_none/certificates", f"/v1/tunnels/tnl_none/certificates/{kept['id']}"):
        assert await admin.refused("GET", path) == (404, "tunnel_not_found")


GOOD = pem(certificate())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "certificate",
        GOOD + GOOD,
        GOOD + PRIVATE,
        PRIVATE,
        GOOD[:-40],
        "subject=CN = ca\n" + GOOD,
        GOOD.replace("MII", "MIA", 1),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n====\n-----END CERTIFICATE-----\n",
        pem(certificate(padding=8192)),
        5,
        None,
    ],
)
async def test_what_is_not_one_certificate_is_refused(admin: Caller, store: Store, text: object) -> None:
    assert await admin.refused("POST", EVERY, {"ca_certificate_pem": text}) == (400, "validation_error")
    assert await store.certificates.of("tnl_a") == []
