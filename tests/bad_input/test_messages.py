"""Messages that could be read in more than one way, or in none: each is refused before anything is decided from it.

The ids are those of the table of attacks that the project was designed against.
"""

from __future__ import annotations

import json
import zlib

import pytest

from tests.bad_input.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="package")

MIB = 1024 * 1024


def call(
    *, name: str = '"echo"', arguments: str = "{}", params: str | None = None, envelope: str = '"id":1', more: str = ""
) -> bytes:
    """A tools/call, some part of which is written by hand."""
    params = params or f'{{"name":{name},"arguments":{arguments}}}'
    return f'{{"jsonrpc":"2.0",{envelope},"method":"tools/call","params":{params}{more}}}'.encode()


def nested(depth: int) -> str:
    """An array in an array in an array."""
    return "[" * depth + "]" * depth


GOOD = call()
Row = tuple[str, bytes, int, str]

NO_JSON: list[Row] = [
    ("PROTO-01 empty", b"", 400, "parse_error"),
    ("PROTO-01 blank", b" \r\n\t ", 400, "parse_error"),
    ("PROTO-01 a brace", b"{", 400, "parse_error"),
    ("PROTO-01 cut in the middle", GOOD[: len(GOOD) // 2], 400, "parse_error"),
    ("PROTO-01 cut at the end", GOOD[:-1], 400, "parse_error"),
    ("PROTO-01 more behind it", GOOD + b"x", 400, "parse_error"),
    ("PROTO-01 a second one behind it", GOOD + b"\n" + GOOD, 400, "parse_error"),
    ("PROTO-01 a trailing comma", GOOD[:-1] + b",}", 400, "parse_error"),
    ("PROTO-01 a comment", b"/* */" + GOOD, 400, "parse_error"),
    ("PROTO-01 single quotes", GOOD.replace(b'"', b"'"), 400, "parse_error"),
    ("PROTO-01 bare keys", GOOD.replace(b'"id"', b"id"), 400, "parse_error"),
    ("PROTO-01 a NUL", b"\x00", 400, "parse_error"),
    ("PROTO-01 compressed", zlib.compress(GOOD), 400, "parse_error"),
    ("PROTO-01 a form", b"jsonrpc=2.0&id=1&method=tools/call", 400, "parse_error"),
    ("PROTO-01 an unknown escape", call(arguments=r'{"a":"\x41"}'), 400, "parse_error"),
    ("PROTO-01 a line end in a string", call(arguments='{"a":"\n"}'), 400, "parse_error"),
]

ENCODINGS: list[Row] = [
    ("PROTO-02 a byte order mark", b"\xef\xbb\xbf" + GOOD, 400, "encoding_invalid"),
    ("PROTO-02 UTF-16", GOOD.decode().encode("utf-16"), 400, "encoding_invalid"),
    ("PROTO-02 UTF-16 without a mark", GOOD.decode().encode("utf-16-le"), 400, "encoding_invalid"),
    ("PROTO-02 UTF-32", GOOD.decode().encode("utf-32"), 400, "encoding_invalid"),
    ("PROTO-02 Latin-1", call(arguments='{"a":"ä"}').decode().encode("latin-1"), 400, "encoding_invalid"),
    ("PROTO-02 an overlong form", call(arguments='{"a":"??"}').replace(b"??", b"\xc0\xae"), 400, "encoding_invalid"),
    ("PROTO-02 CESU-8", call(arguments='{"a":"??"}').replace(b"??", b"\xed\xa0\x80"), 400, "encoding_invalid"),
    ("PROTO-02 half a surrogate pair", call(arguments=r'{"a":"\ud800"}'), 400, "encoding_invalid"),
    ("PROTO-02 the other half", call(arguments=r'{"a":"\udc00x"}'), 400, "encoding_invalid"),
    ("PROTO-02 a raw NUL", call(arguments='{"a":"\0"}'), 400, "encoding_invalid"),
]

NUMBERS: list[Row] = [
    ("PROTO-03 NaN", call(arguments='{"a":NaN}'), 400, "number_out_of_range"),
    ("PROTO-03 Infinity", call(arguments='{"a":-Infinity}'), 400, "number_out_of_range"),
    ("PROTO-03 1e999", call(arguments='{"a":1e999}'), 400, "number_out_of_range"),
    ("PROTO-03 2^64", call(arguments=f'{{"a":{2**64}}}'), 400, "number_out_of_range"),
    ("PROTO-03 -2^63 - 1", call(arguments=f'{{"a":{-(2**63) - 1}}}'), 400, "number_out_of_range"),
    ("PROTO-03 4301 digits", call(arguments=f'{{"a":{"1" * 4301}}}'), 400, "number_out_of_range"),
    ("PROTO-03 a leading zero", call(arguments='{"a":01}'), 400, "parse_error"),
    ("PROTO-03 a hexadecimal", call(arguments='{"a":0x10}'), 400, "parse_error"),
]

SIZES: list[Row] = [
    ("PROTO-04 33 deep", call(arguments='{"a":' + nested(31) + "}"), 400, "depth_exceeded"),
    ("PROTO-04 1,100 deep", call(arguments='{"a":' + nested(1100) + "}"), 400, "depth_exceeded"),
    ("PROTO-04 100,000 deep", call(arguments='{"a":' + nested(100_000) + "}"), 400, "depth_exceeded"),
    ("PROTO-04 100,000 open", b'{"a":' * 100_000, 400, "depth_exceeded"),
    ("PROTO-05 a key of 1 MiB", call(arguments=f'{{"{"k" * (MIB + 1)}":1}}'), 400, "string_too_long"),
    ("PROTO-05 a string of 1 MiB", call(arguments=f'{{"k":"{"x" * (MIB + 1)}"}}'), 400, "string_too_long"),
    ("DOS-12 arguments of 1 MiB", call(arguments=f'{{"k":[{"1," * (MIB // 2)}1]}}'), 413, "payload_too_large"),
    ("DOS-12 a body of 4 MiB", call(arguments=f'{{"k":"{"x" * 4 * MIB}"}}'), 413, "payload_too_large"),
    ("DOS-12 a long id", call(envelope=f'"id":"{"x" * 10_240}"'), 400, "id_invalid"),
    ("DOS-12 a long method", b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % (b"m" * 10_240), 400, "invalid_request"),
]

TWICE: list[Row] = [
    ("AZ-03 the name", call(params='{"name":"echo","name":"forbidden","arguments":{}}'), 400, "duplicate_key"),
    ("AZ-03 the name, reversed", call(params='{"name":"forbidden","name":"echo"}'), 400, "duplicate_key"),
    ("AZ-03 the same name", call(params='{"name":"echo","name":"echo"}'), 400, "duplicate_key"),
    ("AZ-04 the name, escaped", call(params=r'{"name":"echo","\u006eame":"forbidden"}'), 400, "duplicate_key"),
    ("AZ-04 the name, escaped otherwise", call(params=r'{"n\u0061me":"echo","name":"x"}'), 400, "duplicate_key"),
    ("AZ-03 the id", call(envelope='"id":1,"id":2'), 400, "duplicate_key"),
    ("AZ-03 the method", call(more=',"method":"tools/list"'), 400, "duplicate_key"),
    ("AZ-03 params", call(more=',"params":{"name":"forbidden"}'), 400, "duplicate_key"),
    ("AZ-03 an argument", call(arguments='{"sku":"a","sku":"b"}'), 400, "duplicate_key"),
    ("AZ-04 an argument, escaped", call(arguments=r'{"sku":"a","sk\u0075":"b"}'), 400, "duplicate_key"),
    ("AZ-03 deep in an argument", call(arguments='{"a":[{"b":{"c":1,"d":[],"c":2}}]}'), 400, "duplicate_key"),
    ("AZ-03 an empty key", call(arguments='{"":1,"":2}'), 400, "duplicate_key"),
    ("AZ-03 in _meta", call(params='{"name":"echo","_meta":{"tenant":"a","tenant":"b"}}'), 400, "duplicate_key"),
    ("AZ-03 _meta", call(params='{"name":"echo","_meta":{},"_meta":{"tenant":"b"}}'), 400, "duplicate_key"),
    ("AZ-05 Name", call(params='{"name":"echo","Name":"forbidden"}'), 400, "unknown_member"),
    ("AZ-05 ARGUMENTS", call(params='{"name":"echo","ARGUMENTS":{"a":1}}'), 400, "unknown_member"),
    ("AZ-05 argument\u017f", call(params='{"name":"echo","argument\u017f":{"a":1}}'), 400, "unknown_member"),
    ("AZ-05 a full-width name", call(params='{"name":"echo","\uff4eame":"forbidden"}'), 400, "unknown_member"),
    ("AZ-05 an invisible character", call(params='{"name":"echo","na\u200bme":"forbidden"}'), 400, "unknown_member"),
    ("AZ-06 a NUL behind it", call(params=r'{"name":"echo","name\u0000":"forbidden"}'), 400, "unknown_member"),
    ("AZ-05 Method", call(more=',"Method":"tools/list"'), 400, "unknown_member"),
    ("AZ-05 Params", call(more=',"Params":{"name":"forbidden"}'), 400, "unknown_member"),
]

ENVELOPES: list[Row] = [
    ("PROTO-11 a member of its own", call(more=',"x":1'), 400, "unknown_member"),
    ("PROTO-11 a result as well", call(more=',"result":{}'), 400, "unknown_member"),
    ("batch of none", b"[]", 400, "batch_not_supported"),
    ("batch of one", b"[" + GOOD + b"]", 400, "batch_not_supported"),
    ("batch of two", b" [" + GOOD + b"," + GOOD + b"]", 400, "batch_not_supported"),
    ("batch that is no JSON", b"[" + GOOD, 400, "batch_not_supported"),
    ("a string", b'"hello"', 400, "invalid_request"),
    ("a number", b"1", 400, "invalid_request"),
    ("null", b"null", 400, "invalid_request"),
    ("nothing in it", b"{}", 400, "invalid_request"),
    ("no version", GOOD.replace(b'"jsonrpc":"2.0",', b""), 400, "invalid_request"),
    ("another version", GOOD.replace(b"2.0", b"1.0"), 400, "invalid_request"),
    ("a version that is a number", GOOD.replace(b'"2.0"', b"2.0"), 400, "invalid_request"),
    ("a method that is a number", GOOD.replace(b'"tools/call"', b"1"), 400, "invalid_request"),
    ("a method that is null", GOOD.replace(b'"tools/call"', b"null"), 400, "invalid_request"),
    ("an empty method", GOOD.replace(b'"tools/call"', b'""'), 400, "invalid_request"),
    ("params that are an array", call(params='["echo"]'), 400, "invalid_request"),
    ("params that are a string", call(params='"echo"'), 400, "invalid_request"),
    ("params that are null", call(params="null"), 400, "invalid_request"),
    ("_meta that is an array", call(params='{"name":"echo","_meta":[]}'), 400, "invalid_request"),
    ("a notification with an id", GOOD.replace(b"tools/call", b"notifications/x"), 400, "invalid_request"),
    ("AZ-08 a response", b'{"jsonrpc":"2.0","id":1,"result":{}}', 400, "unexpected_response"),
    ("AZ-08 an error", b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}', 400, "unexpected_response"),
    ("AZ-08 both", b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', 400, "invalid_request"),
    ("AZ-09 no id", GOOD.replace(b'"id":1,', b""), 400, "id_required"),
    ("AZ-09 tools/list without an id", b'{"jsonrpc":"2.0","method":"tools/list"}', 400, "id_required"),
    *(
        (f"AZ-10 {ident}", call(envelope=f'"id":{ident}'), 400, "id_invalid")
        for ident in ("null", "true", "1.0", "1e3", str(2**53), str(-(2**53)), '""', "[]", "{}")
    ),
    ("AZ-10 1e400", call(envelope='"id":1e400'), 400, "number_out_of_range"),
    *(
        (f"AZ-12 name: {name}", call(name=name), 400, "arguments_invalid")
        for name in ('["echo"]', '{"x":1}', "5", "null", "true")
    ),
    ("AZ-12 no name", call(params='{"arguments":{}}'), 400, "arguments_invalid"),
    *(
        (f"arguments: {arguments}", call(arguments=arguments), 400, "arguments_invalid")
        for arguments in ("[]", '"a"', "1", "null")
    ),
    *(
        (
            f"a deadline of {deadline}",
            call(params=f'{{"name":"echo","_meta":{{"dev.arrowslit/deadline-ms":{deadline}}}}}'),
            400,
            "deadline_invalid",
        )
        for deadline in ("0", "-1", "3600001", "1.5", '"1000"', "null")
    ),
]

NOT_GRANTED: list[Row] = [
    *(
        (f"AZ-11 {name!r}", call(name=json.dumps(name)), 200, "tool_not_allowed")
        for name in (
            "forbidden",
            "echo ",
            " echo",
            "echo\n",
            "echo\u200b",
            "\u0435cho",  # Cyrillic
            "\uff45cho",
            "echo\0forbidden",
            "ECHO",
            "",
            "*",
            "../echo",
        )
    ),
    *(
        (f"AZ-17 {method}", f'{{"jsonrpc":"2.0","id":1,"method":"{method}"}}'.encode(), 200, "method_not_allowed")
        for method in (
            "resources/read",
            "resources/list",
            "prompts/get",
            "completion/complete",
            "sampling/createMessage",
            "tasks/get",
            "unknown/x",
            "tool\u017f/call",
            "TOOLS/CALL",
            "tools/call ",
            "rpc.discover",
        )
    ),
]

ROWS = [*NO_JSON, *ENCODINGS, *NUMBERS, *SIZES, *TWICE, *ENVELOPES]


@pytest.mark.promise("P8")
@pytest.mark.parametrize(("body", "status", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_a_message_that_is_not_one_is_refused(scene: Scene, body: bytes, status: int, code: str) -> None:
    await scene.refused(scene.message(body), status, code)


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("body", "status", "code"), [row[1:] for row in NOT_GRANTED], ids=[row[0] for row in NOT_GRANTED]
)
async def test_what_was_not_granted_is_not_there_by_any_spelling(
    scene: Scene, body: bytes, status: int, code: str
) -> None:
    await scene.refused(scene.message(body), status, code)


async def test_a_refusal_carries_the_id_where_it_can_be_read(scene: Scene) -> None:
    for body, expected in (
        (call(more=',"x":1'), 1),
        (call(envelope='"id":"mine"', name="5"), "mine"),
        (call(arguments=f'{{"k":[{"1," * (MIB // 2)}1]}}', envelope='"id":7'), 7),
        (call(name='"forbidden"', envelope='"id":8'), 8),
        (b"{", None),
        (call(envelope='"id":true'), None),
    ):
        answer = await scene.asked(body)
        assert answer["id"] == expected


async def test_what_is_on_the_edge_passes(scene: Scene) -> None:
    """The counterpart of the table: limits are met exactly, and what is plain data has no other meaning."""
    for body in (
        call(arguments='{"a":' + nested(28) + "}"),
        call(arguments=f'{{"k":"{"x" * (MIB - 100)}"}}'),
        call(arguments=f'{{"a":{2**64 - 1},"b":{-(2**63)},"c":-0,"d":1e308}}'),
        call(arguments=r'{"a":"\ud83d\ude00","b":"\u0000","tenant":"evil","name":"forbidden","":0}'),
        call(envelope=f'"id":{2**53 - 1}'),
        call(envelope=f'"id":"{"x" * 256}"'),
        b" \n" + call(params='{"name":"echo","_meta":{"dev.arrowslit/deadline-ms":3600000}}') + b"\n",
    ):
        answer = await scene.asked(body)
        assert "result" in answer


async def test_a_body_of_many_small_objects_is_read_in_time(scene: Scene) -> None:
    """PROTO-05: what is wide is bounded by its bytes."""
    many = call(arguments='{"k":[' + "{}," * 300_000 + "{}]}")
    assert "result" in await scene.asked(many)
