from __future__ import annotations

import re
from pathlib import Path

import pytest

from arrowslit.edge.oidc.issuer import ALGORITHMS, Issuer, may_fetch, parse
from arrowslit.errors import Error
from arrowslit.principal import Scope

GOOD = """
[[issuer]]
issuer = "https://login.example.com/"
audience = "arrowslit"
algorithm = "RS256"
tenant_claim = "https://example.com/org"
agents = ["stock"]
"""


def refusal(text: str) -> str:
    with pytest.raises(Error) as refused:
        parse(text)
    assert refused.value.code == "oidc_invalid"
    assert refused.value.hint is not None
    return refused.value.message


def test_a_file_says_whom_to_believe_and_what_for() -> None:
    (issuer,) = parse(GOOD)

    assert (issuer.issuer, issuer.audience, issuer.algorithm) == ("https://login.example.com/", "arrowslit", "RS256")
    assert issuer.scopes == {Scope.INVOKE}  # nothing more, unless it is written
    assert issuer.agents == frozenset({"stock"})
    assert issuer.discovery_url == "https://login.example.com/.well-known/openid-configuration"


def test_the_file_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "security-model.md").read_text()
    (text,) = (each for each in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[[issuer]]" in each)

    (issuer,) = parse(text)
    (same,) = parse(text.replace("# leeway", "leeway"))

    assert issuer == same
    assert issuer.scopes == {Scope.INVOKE, Scope.CONFIRM}
    assert issuer.max_age == 3600


def test_everything_may_be_said_of_several_issuers() -> None:
    text = """
    [[issuer]]
    issuer = "backend"
    audience = "arrowslit"
    algorithm = "EdDSA"
    jwks_url = "http://127.0.0.1:8000/keys"
    tenant_claim = "tenant"
    agents_claim = "agents"
    scopes = ["invoke", "confirm"]
    max_age = 600
    leeway = 0

    [[issuer]]
    issuer = "https://admins.example.com"
    audience = "arrowslit"
    algorithm = "ES256"
    tenant_claim = "tenant"
    scopes = ["admin"]
    """

    backend, admins = parse(text)

    assert backend == Issuer(
        issuer="backend",
        audience="arrowslit",
        algorithm="EdDSA",
        jwks_url="http://127.0.0.1:8000/keys",
        tenant_claim="tenant",
        agents_claim="agents",
        scopes=frozenset({Scope.INVOKE, Scope.CONFIRM}),
        max_age=600,
        leeway=0,
    )
    assert admins.scopes == {Scope.ADMIN}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        *((f'algorithm = "{name}"', "algorithm") for name in ("HS256", "HS512", "none", "None", "rs256", "RS256 ", "")),
        ('algorithm = ["RS256", "ES256"]', "algorithm"),
        ('issuer = ""', "issuer"),
        ("issuer = 7", "issuer"),
        ('issuer = "backend"', "jwks_url"),
        ('issuer = "http://login.example.com"', "https"),
        ('audience = ["arrowslit"]', "audience"),
        ('jwks_url = "http://login.example.com/keys"', "https"),
        ('jwks_url = "file:///etc/passwd"', "https"),
        ('jwks_url = "https://user:secret@login.example.com/keys"', "https"),
        ('jwks_url = "https:///keys"', "https"),
        ('tenant_claim = ""', "tenant_claim"),
        ("tenant_claim = true", "tenant_claim"),
        ("agents = []", "agents"),
        ('agents = "stock"', "agents"),
        ('agents_claim = "agents"', "exclude"),
        ("scopes = []", "scopes"),
        ('scopes = ["root"]', "root"),
        ('scopes = ["invoke", "mint"]', "mint"),
        ("leeway = 301", "leeway"),
        ("leeway = -1", "leeway"),
        ("max_age = 0", "max_age"),
        ('audiences = "arrowslit"', "audiences"),
        ('jku = "https://x"', "jku"),
    ],
)
def test_what_does_not_say_clearly_whom_to_believe_is_refused(line: str, said: str) -> None:
    name = line.partition(" ")[0]
    others = [each for each in GOOD.splitlines() if not each.startswith(f"{name} =")]

    message = refusal("\n".join([*others, line]))

    assert said in message
    assert "issuer 1: " in message


@pytest.mark.parametrize("missing", ["issuer", "audience", "algorithm", "tenant_claim", "agents"])
def test_nothing_is_left_to_guess(missing: str) -> None:
    text = "\n".join(each for each in GOOD.splitlines() if not each.startswith(f"{missing} ="))

    assert missing in refusal(text)


@pytest.mark.parametrize("text", ["", "issuer = 1", "[issuer]", "issuer = []", "issuer = [1]", "[[issuers]]", "a b"])
def test_a_file_without_issuers_is_refused(text: str) -> None:
    refusal(text)


def test_the_whole_file_is_read_before_it_is_refused() -> None:
    second = GOOD.replace("RS256", "HS256").replace("login", "other")
    third = GOOD.replace("tenant_claim", "tenant_claims").replace("login", "third")

    message = refusal(GOOD + second + third + GOOD)

    assert "issuer 1" not in message
    assert "issuer 2: algorithm 'HS256'" in message
    assert "issuer 3: " in message
    assert "'https://login.example.com/' is listed more than once" in message


def test_no_symmetric_algorithm_is_known() -> None:
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://login.example.com/keys?v=1", True),
        ("http://127.0.0.1:9000/keys", True),
        ("http://[::1]/keys", True),
        ("http://localhost/keys", True),
        ("http://127.0.0.1.example.com/keys", False),
        ("http://169.254.169.254/latest", False),
        ("http://10.0.0.1/keys", False),
        ("HTTP://login.example.com", False),
        ("ftp://127.0.0.1/keys", False),
        ("javascript:alert(1)", False),
        ("//login.example.com/keys", False),
        ("https://login.example.com:0/", False),
        ("https://login.example.com:x/", False),
        ("https://login.example.com/\n", False),
        ("https://login.example.com/#keys", False),
        ("https://[::1/", False),
        ("", False),
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str, may: bool) -> None:
    assert may_fetch(url) is may
