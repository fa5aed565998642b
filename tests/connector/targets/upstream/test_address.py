from __future__ import annotations

import pytest

from arrowslit.connector.targets.upstream.address import HostPort, permitted, read_endpoint, read_place
from arrowslit.errors import Error


@pytest.mark.parametrize(
    ("url", "place", "authority", "path"),
    [
        ("http://127.0.0.1:8080/mcp", HostPort("127.0.0.1", 8080), "127.0.0.1:8080", "/mcp"),
        (
            "http://Inventory.internal:8080/mcp/",
            HostPort("inventory.internal", 8080),
            "inventory.internal:8080",
            "/mcp/",
        ),
        ("https://stock_mcp/mcp?team=a%20b", HostPort("stock_mcp", 443), "stock_mcp", "/mcp?team=a%20b"),
        ("HTTP://10.0.0.5", HostPort("10.0.0.5", 80), "10.0.0.5", "/"),
        ("https://10.0.0.5:80?x=1", HostPort("10.0.0.5", 80), "10.0.0.5:80", "/?x=1"),
        ("http://[FD00:0::1]:9/mcp", HostPort("fd00::1", 9), "[fd00::1]:9", "/mcp"),
        ("http://[::1]:80/mcp", HostPort("::1", 80), "[::1]", "/mcp"),
        ("http://localhost:65535/mcp", HostPort("localhost", 65535), "localhost:65535", "/mcp"),
    ],
)
def test_a_url_is_read_in_one_way(url: str, place: HostPort, authority: str, path: str) -> None:
    endpoint = read_endpoint(url)

    assert (endpoint.place, endpoint.authority, endpoint.path) == (place, authority, path)
    assert endpoint.tls is url.lower().startswith("https")
    assert read_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "host",
    # SSRF-01 and SSRF-02 of the security cases: what a resolver would take for loopback or worse
    [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "localhost.",
        "[::]",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
        "[fe80::1%25lo]",
        "[fe80::1%lo]",
        "[127.0.0.1]",
        "::1",
        "224.0.0.1",
        "255.255.255.255",
        "[ff02::1]",
        "[::1",
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "a%62c",
        "a,b",
        "a b",
        "bücher.example",
    ],
)
def test_a_host_that_others_would_read_differently_is_refused(host: str) -> None:
    with pytest.raises(Error) as caught:
        read_endpoint(f"http://{host}:8080/mcp")

    assert caught.value.code == "target_invalid"
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    # SSRF-06 and SSRF-08
    [
        "http://127.0.0.1\\@allowed/",
        "http://allowed@127.0.0.1/",
        "http://a:s3cret@allowed/",
        "http://allowed/#@evil/",
        "http://allowed/a\tb",
        "http://allowed/a\r\nX: y",
        "http://allowed/\n",
        "\thttp://allowed/",
        "http://allowed/a b",
        "http://allowed/%00",
        "http://allowed/%0d%0aX:y",
        "http://allowed/%zz",
        "http://allowed/<a>",
        "http://allowed/#",
        "http://allowed:0/",
        "http://allowed:65536/",
        "http://allowed:8080x/",
        "http://allowed:/",
        "http://allowed:٨٠/",
        "http://allowed:+80/",
        "http:///mcp",
        "http:/allowed/",
        "http:allowed",
        "//allowed/mcp",
        "allowed:80/mcp",
        "",
        "file:///etc/passwd",
        "gopher://allowed/",
        "ftp://allowed/",
        "http+unix://allowed/",
        "javascript:alert(1)",
        "data:,x",
        "sse+http://allowed:80/sse",
        "stdio:./server.py",
    ],
)
def test_a_url_that_is_no_plain_http_address_is_refused(url: str) -> None:
    with pytest.raises(Error) as caught:
        read_endpoint(url)

    assert caught.value.code == "target_invalid"
    assert caught.value.hint
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_an_allowed_place_names_its_port() -> None:
    assert read_place("DB.internal:5432") == HostPort("db.internal", 5432)
    assert read_place("[::1]:80") == HostPort("::1", 80)
    for text in ("db.internal", "db.internal:", "*:80", "10.0.0.0/8:80", "127.1:80", "ⅾb:80", "http://db:80", ":80"):
        with pytest.raises(Error, match="target_invalid"):
            read_place(text)


NAME = HostPort("inventory.internal", 8080)


@pytest.mark.parametrize(
    ("place", "address", "may"),
    [
        (NAME, "10.0.0.5", True),
        (NAME, "100.64.0.7", True),  # carrier-grade and overlay networks
        (NAME, "203.0.113.9", True),
        (NAME, "fd00::5", True),
        (NAME, "2a00:1450::1", True),
        (NAME, "127.0.0.1", False),
        (NAME, "127.8.8.8", False),
        (NAME, "0.0.0.0", False),
        (NAME, "169.254.169.254", False),
        (NAME, "224.0.0.1", False),
        (NAME, "255.255.255.255", False),
        (NAME, "::1", False),
        (NAME, "::", False),
        (NAME, "::ffff:127.0.0.1", False),
        (NAME, "::ffff:10.0.0.5", False),
        (NAME, "::127.0.0.1", False),
        (NAME, "64:ff9b::7f00:1", False),
        (NAME, "2002:7f00:1::", False),
        (NAME, "2001:0:1::", False),
        (NAME, "fec0::1", False),
        (NAME, "fe80::1", False),
        (NAME, "fe80::1%eth0", False),
        (NAME, "ff02::1", False),
        (HostPort("localhost", 80), "127.0.0.1", True),
        (HostPort("mcp.localhost", 80), "::1", True),
        (HostPort("localhost", 80), "10.0.0.5", False),
        (HostPort("127.0.0.1", 80), "127.0.0.1", True),
        (HostPort("169.254.1.1", 80), "169.254.1.1", True),
    ],
)
def test_a_name_leads_only_where_its_kind_may_lead(place: HostPort, address: str, may: bool) -> None:
    assert permitted(place, [address], ()) == ([address] if may else [])


def test_a_special_address_is_permitted_where_it_is_listed_with_its_port() -> None:
    listed = {HostPort("127.0.0.1", 8080), HostPort("::1", 9090)}

    assert permitted(NAME, ["127.0.0.1", "::1", "10.0.0.5", "127.0.0.2"], listed) == ["127.0.0.1", "10.0.0.5"]


def test_an_address_is_told_from_a_name() -> None:
    assert all(HostPort(host, 1).is_address for host in ("::1", "10.0.0.5"))
    assert not any(HostPort(host, 1).is_address for host in ("a.b", "a5", "5.x5a"))
