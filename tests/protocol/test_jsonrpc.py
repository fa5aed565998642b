"""One strict reading: what is let in every reader reads alike, what could be read in two ways is refused."""

from __future__ import annotations

import json
import math
import time
from typing import Any, Never

import msgspec
import pydantic_core
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import Raw

from arrowslit.errors import CODES
from arrowslit.protocol.jsonrpc import MAX_ID, MIB, Kind, Message, Refused, error_body, fold, read, write

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","arguments":{}}}'


def call(arguments: bytes = b"{}", more: bytes = b"") -> bytes:
    """A good call with these arguments, and `more` behind them in params."""
    return CALL.replace(b'"arguments":{}', b'"arguments":' + arguments + more)


def envelope(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"} | members).encode()


def refusal(body: bytes, **limits: int) -> str:
    """The code that `body` is refused with."""
    with pytest.raises(Refused) as refused:
        read(body, **limits)
    assert refused.value.code in CODES
    return refused.value.code


# ---------------------------------------------------------------- the cases


@pytest.mark.promise("P8")
@pytest.mark.parametrize(
    ("case", "body", "code"),
    [
        ("AZ-03", call(more=b',"name":"danger"'), "duplicate_key"),
        ("AZ-03 reversed", CALL.replace(b'"name":"safe"', b'"name":"danger","name":"safe"'), "duplicate_key"),
        ("AZ-03 params", CALL[:-1] + b',"params":{"name":"danger"}}', "duplicate_key"),
        ("AZ-03 same value", call(b'{"a":1,"a":1}'), "duplicate_key"),
        ("AZ-03 deep in arguments", call(b'{"a":[{"b":{"c":1,"d":2,"c":3}}]}'), "duplicate_key"),
        ("AZ-04", call(more=rb',"\u006eame":"danger"'), "duplicate_key"),
        ("AZ-04 in arguments", call(rb'{"a":1,"\u0061":2}'), "duplicate_key"),
        ("AZ-04 surrogates", call('{"😀":1,"\\ud83d\\ude00":2}'.encode()), "duplicate_key"),
        ("AZ-04 solidus", call(rb'{"a/b":1,"a\/b":2}'), "duplicate_key"),
        ("AZ-04 a colon for a colon", call(rb'{"a":1,"a":"\u003a"}'), "duplicate_key"),
        ("AZ-04 a colon for a colon, in the key", call(rb'{"\u003A":1,":":2}'), "duplicate_key"),
        ("AZ-04 no escape but the look of one", call(rb'{"a":":","a":"\\u003a:"}'), "duplicate_key"),
        ("AZ-05 Name", call(more=b',"Name":"danger"'), "unknown_member"),
        ("AZ-05 NAME", call(more=b',"NAME":"danger"'), "unknown_member"),
        ("AZ-05 Params", CALL[:-1] + b',"Params":{"name":"danger"}}', "unknown_member"),
        ("AZ-05 Method", CALL[:-1] + b',"Method":"ping"}', "unknown_member"),
        ("AZ-05 U+017F", CALL[:-1] + ',"paramſ":{"name":"danger"}}'.encode(), "unknown_member"),
        ("AZ-05 U+017F in params", call(more=',"argumentſ":{}'.encode()), "unknown_member"),
        ("AZ-05 U+212A", call(more=b',"tasK":{}'), "unknown_member"),
        ("AZ-05 full width", call(more=',"ｎａｍｅ":"danger"'.encode()), "unknown_member"),
        ("AZ-05 zero width", call(more=',"na\u200bme":"danger"'.encode()), "unknown_member"),
        ("AZ-05 blank", call(more=b',"name ":"danger"'), "unknown_member"),
        ("AZ-06", call(more=rb',"name\u0000":"danger"'), "unknown_member"),
        ("AZ-06 envelope", CALL[:-1] + rb',"method\u0000":"ping"}', "unknown_member"),
        ("AZ-06 _meta", call(more=rb',"_meta":{"x\u0000":1}'), "unknown_member"),
        ("AZ-06 any control character", call(more=rb',"other\u0085":1'), "unknown_member"),
        ("AZ-07", b"[" + CALL + b"]", "batch_not_supported"),
        ("AZ-07 nested", b"[[" + CALL + b"]]", "batch_not_supported"),
        ("AZ-07 empty", b" \n[]", "batch_not_supported"),
        ("AZ-10 null", envelope(id=None), "id_invalid"),
        ("AZ-10 true", envelope(id=True), "id_invalid"),
        ("AZ-10 1.0", envelope(id=1.0), "id_invalid"),
        ("AZ-10 1e400", b'{"jsonrpc":"2.0","id":1e400,"method":"ping"}', "number_out_of_range"),
        ("AZ-10 2**64", envelope(id=2**64), "number_out_of_range"),
        ("AZ-10 2**53", envelope(id=2**53), "id_invalid"),
        ("AZ-10 empty", envelope(id=""), "id_invalid"),
        ("AZ-10 10 KiB", envelope(id="x" * 10240), "id_invalid"),
        ("AZ-10 []", envelope(id=[]), "id_invalid"),
        ("AZ-10 {}", envelope(id={}), "id_invalid"),
        ("PROTO-01 empty", b"", "parse_error"),
        ("PROTO-01 whitespace", b" \r\n\t", "parse_error"),
        ("PROTO-01 truncated", CALL[:-1], "parse_error"),
        ("PROTO-01 {", b"{", "parse_error"),
        ("PROTO-01 NUL", b"\0", "parse_error"),
        ("PROTO-01 gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "parse_error"),
        ("PROTO-01 trailing bytes", CALL + b"{}", "parse_error"),
        ("PROTO-01 two messages", CALL + b"\n" + CALL, "parse_error"),
        ("PROTO-01 single quotes", CALL.replace(b'"', b"'"), "parse_error"),
        ("PROTO-01 comma", call(b'{"a":1,}'), "parse_error"),
        ("PROTO-01 leading zero", call(b'{"a":01}'), "parse_error"),
        ("PROTO-01 raw newline in a string", call(b'{"a":"\n"}'), "parse_error"),
        ("PROTO-01 escape", call(rb'{"a":"\x41"}'), "parse_error"),
        ("PROTO-01 comment", call(b"{/**/}"), "parse_error"),
        ("PROTO-01 a number", b"1", "invalid_request"),
        ("PROTO-01 a string", b'"tools/call"', "invalid_request"),
        ("PROTO-02 BOM", b"\xef\xbb\xbf" + CALL, "encoding_invalid"),
        ("PROTO-02 UTF-16", CALL.decode().encode("utf-16"), "encoding_invalid"),
        ("PROTO-02 UTF-16-LE", CALL.decode().encode("utf-16-le"), "encoding_invalid"),
        ("PROTO-02 UTF-16-BE", CALL.decode().encode("utf-16-be"), "encoding_invalid"),
        ("PROTO-02 UTF-32-BE", CALL.decode().encode("utf-32-be"), "encoding_invalid"),
        ("PROTO-02 latin-1", call('{"a":"é"}'.encode("latin-1")), "encoding_invalid"),
        ("PROTO-02 latin-1 key", call('{"é":1}'.encode("latin-1")), "encoding_invalid"),
        ("PROTO-02 overlong", call(b'{"a":"\xc0\xae"}'), "encoding_invalid"),
        ("PROTO-02 CESU-8", call(b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}'), "encoding_invalid"),
        ("PROTO-02 lone surrogate", call(rb'{"a":"\ud800"}'), "encoding_invalid"),
        ("PROTO-02 low surrogate", call(rb'{"a":"\udc00 and more than that"}'), "encoding_invalid"),
        ("PROTO-02 surrogates reversed", call(rb'{"a":"\udc00\ud800"}'), "encoding_invalid"),
        ("PROTO-02 surrogate in a key", call(rb'{"\ud800":1}'), "encoding_invalid"),
        ("PROTO-02 raw NUL", call(b'{"a":"\0"}'), "encoding_invalid"),
        ("PROTO-03 NaN", call(b'{"a":NaN}'), "number_out_of_range"),
        ("PROTO-03 -Infinity", call(b'{"a":-Infinity}'), "number_out_of_range"),
        ("PROTO-03 1e999", call(b'{"a":1e999}'), "number_out_of_range"),
        ("PROTO-03 -1e999", call(b'{"a":[-1e999]}'), "number_out_of_range"),
        ("PROTO-03 2**64", call(b'{"a":18446744073709551616}'), "number_out_of_range"),
        ("PROTO-03 -2**63-1", call(b'{"a":-9223372036854775809}'), "number_out_of_range"),
        ("PROTO-03 4301 digits", call(b'{"a":' + b"9" * 4301 + b"}"), "number_out_of_range"),
        ("PROTO-04 33", call(b"[" * 31 + b"]" * 31), "depth_exceeded"),
        ("PROTO-04 objects", call(b'{"a":' * 31 + b"1" + b"}" * 31), "depth_exceeded"),
        ("PROTO-04 1100", call(b"[" * 1100 + b"]" * 1100), "depth_exceeded"),
        ("PROTO-04 open", call(b"[" * 100_000), "depth_exceeded"),
        ("PROTO-04 behind a string", call(b'{"\\\\":"\\"","b":' + b"[" * 40 + b"]" * 40 + b"}"), "depth_exceeded"),
        ("PROTO-11", CALL[:-1] + b',"x":1}', "unknown_member"),
        ("PROTO-11 a result with a method", CALL[:-1] + b',"result":{}}', "unknown_member"),
        ("PROTO-11 __proto__", CALL[:-1] + b',"__proto__":{}}', "unknown_member"),
        ("jsonrpc", CALL.replace(b'"2.0"', b'"1.0"'), "invalid_request"),
        ("jsonrpc as a number", CALL.replace(b'"2.0"', b"2.0"), "invalid_request"),
        ("no jsonrpc", CALL.replace(b'"jsonrpc":"2.0",', b""), "invalid_request"),
        ("no method", b'{"jsonrpc":"2.0","id":1}', "invalid_request"),
        ("method as a number", envelope(method=1), "invalid_request"),
        ("method as null", envelope(method=None), "invalid_request"),
        ("empty method", envelope(method=""), "invalid_request"),
        ("long method", envelope(method="x" * 257), "invalid_request"),
        ("params as null", envelope(params=None), "invalid_request"),
        ("params as a list", envelope(params=["safe"]), "invalid_request"),
        ("_meta as null", envelope(params={"_meta": None}), "invalid_request"),
        ("_meta as a list", envelope(params={"_meta": []}), "invalid_request"),
        ("long key", envelope(params={"x" * 257: 1}), "unknown_member"),
        ("long key in _meta", envelope(params={"_meta": {"x" * 257: 1}}), "unknown_member"),
        ("result and error", b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', "invalid_request"),
        ("response without id", b'{"jsonrpc":"2.0","result":{}}', "id_invalid"),
        ("response to null", b'{"jsonrpc":"2.0","id":null,"error":{}}', "id_invalid"),
        ("error as text", b'{"jsonrpc":"2.0","id":1,"error":"no"}', "invalid_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_that_could_be_read_in_two_ways_is_refused(case: str, body: bytes, code: str) -> None:
    assert refusal(body) == code, case


@pytest.mark.promise("P8")
@pytest.mark.parametrize(
    "arguments",
    [
        b"{}",
        b'{ "a" :\t1 }',
        b'{"a":-0,"b":0.0,"c":1.0,"d":1E5,"e":1e-999}',
        b'{"a":18446744073709551615,"b":-9223372036854775808}',
        b'{"a":0.12345678901234567890123,"b":12345678901234567890123.0,"c":1e0000000000000000000000}',
        b'{"a":"12345678901234567890123"}',
        b'{"a":"\\\\","b":":{[","c":"\\":{","\\\\\\"":"::"}',
        rb'{"a":"\ud83d\ude00","b":"\\ud800","c":"\u0000"}',
        '{"ſku":"é\u2028","Sku":1,"sku":2}'.encode(),
        b"[" * 30 + b"]" * 30,
        b'{"a":"' + b"[" * 100 + b'"}',
        b'{"a":[' + b"{}," * 99 + b"{}]}",
    ],
)
def test_what_every_reader_reads_alike_travels_byte_for_byte(arguments: bytes) -> None:
    message = read(call(arguments))
    assert message.params is not None
    assert bytes(message.params["arguments"]) == arguments
    assert arguments in write(message)


# ---------------------------------------------------------------- what a message says


def test_a_request_is_taken_apart_and_its_arguments_are_not() -> None:
    message = read(call(b'{"sku": "A1"}', b',"_meta":{"progressToken":7}'))
    assert (message.kind, message.id, message.method) == (Kind.REQUEST, 1, "tools/call")
    assert message.params == {"name": Raw(b'"safe"'), "arguments": Raw(b'{"sku": "A1"}')}
    assert message.meta == {"progressToken": Raw(b"7")}


def test_a_message_without_an_id_is_a_notification() -> None:
    message = read(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert message == Message(Kind.NOTIFICATION, None, "notifications/initialized")


@pytest.mark.parametrize("result", [b'{"roots":[ ]}', b"{}", b"null"])
def test_a_result_is_kept_as_it_came(result: bytes) -> None:
    message = read(b'{"id":"a","result":' + result + b',"jsonrpc":"2.0"}')
    assert message == Message(Kind.RESPONSE, "a", None, result=Raw(result))
    assert write(message) == b'{"jsonrpc":"2.0","id":"a","result":' + result + b"}"


def test_an_error_that_a_client_answers_with_is_kept_as_it_came() -> None:
    message = read(b'{"jsonrpc":"2.0","id":2,"error":{"code":-1, "message":"no"}}')
    assert message == Message(Kind.RESPONSE, 2, None, error=Raw(b'{"code":-1, "message":"no"}'))


@pytest.mark.parametrize("ident", [0, -1, MAX_ID, -MAX_ID, "1", "x" * 256, "é"])
def test_an_id_comes_back_as_it_was(ident: int | str) -> None:
    message = read(envelope(id=ident))
    assert message.id == ident
    assert type(message.id) is type(ident)
    assert json.loads(write(message))["id"] == ident


@pytest.mark.promise("P8")
def test_what_is_written_has_the_order_and_the_spacing_that_we_give_it() -> None:
    body = b'{ "params" : {"_meta":{} , "name" : "\\u0073afe"},\n"id":1, "method":"tools\\/call", "jsonrpc":"2.0" }'
    assert write(read(body)) == (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\u0073afe","_meta":{}}}'
    )


def test_the_id_of_a_refused_request_is_told_where_it_could_be_read() -> None:
    for body in (envelope(id=7, x=1), envelope(id=7, params=[]), envelope(id=7, method="", jsonrpc="2.0")):
        with pytest.raises(Refused) as refused:
            read(body)
        assert refused.value.id == 7
    with pytest.raises(Refused) as refused:
        read(call(b'{"a":1,"a":2}'))
    assert refused.value.id is None


# ---------------------------------------------------------------- limits


def test_arguments_up_to_the_limit_pass_and_one_byte_more_does_not() -> None:
    arguments = b'{"a":"' + b"x" * 92 + b'"}'
    assert read(call(arguments), arguments_limit=100).id == 1
    with pytest.raises(Refused) as refused:
        read(call(arguments.replace(b"x", b"xx", 1)), arguments_limit=100)
    assert (refused.value.code, refused.value.id) == ("payload_too_large", 1)


def test_a_string_up_to_the_limit_passes_and_one_byte_more_does_not() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"requestState":"' + b"x" * 200 + b'"}}'
    assert read(body, string=200).id == 1
    assert refusal(body, string=199) == "string_too_long"
    assert refusal(body.replace(b"xx", rb"\"", 1), string=199) == "string_too_long"


def test_depth_counts_the_message_itself() -> None:
    assert read(call(b"[" * 30 + b"]" * 30)).id == 1
    assert refusal(call(b"[" * 31 + b"]" * 31)) == "depth_exceeded"
    assert refusal(call(b'{"a":' + b"[" * 3 + b"]" * 3 + b"}"), depth=5) == "depth_exceeded"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4 * MIB,
        call(b"[" * 4 * MIB),
        call(b"[]" * 2 * MIB),
        call(b'{"":' * MIB),
        call(b'"' + b"\\" * 4 * MIB),
        call(b'"' + rb"\"" * 2 * MIB),
        b'{"' * 2 * MIB,
        call(b"9" * 4 * MIB),
        call(b"9." * 2 * MIB),
        call(b"[" + b"{}," * MIB + b"{}]"),
    ],
    ids=range(10),
)
def test_no_body_of_four_mebibytes_keeps_the_loop_for_long(body: bytes) -> None:
    began = time.process_time()
    refusal(body)
    assert time.process_time() - began < 2.0  # the slowest takes 0.4 s; a quadratic reading takes hours


# ---------------------------------------------------------------- for all messages

texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
ids = st.integers(-MAX_ID, MAX_ID) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A good request as some client writes it."""
    params: dict[str, object] = {"name": draw(texts), "arguments": draw(st.dictionaries(texts, values, max_size=4))}
    if draw(st.booleans()):
        params["_meta"] = draw(st.dictionaries(st.sampled_from(["progressToken", "x/y", "tenant"]), values))
    members: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": draw(ids),
        "method": draw(texts.filter(bool)),
        "params": params,
    }
    shuffled = {key: members[key] for key in draw(st.permutations(list(members)))}
    text = json.dumps(shuffled, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return text.encode()


@pytest.mark.promise("P8")
@given(bodies())
def test_reading_what_was_written_gives_the_same_message(body: bytes) -> None:
    message = read(body)
    written = write(message)
    assert read(written) == message
    assert write(read(written)) == written


@pytest.mark.promise("P8")
@given(bodies())
def test_all_parsers_read_alike_what_was_written(body: bytes) -> None:
    written = write(read(body))
    expected = json.loads(body)
    assert json.loads(written) == expected
    assert msgspec.json.decode(written) == expected
    assert pydantic_core.from_json(written) == expected


colons = st.text(st.sampled_from('a:"\\u03{'), max_size=6)


@st.composite
def keys_at_will(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A call whose arguments hold colons wherever JSON may have one, and whether a key stands twice among them."""
    keys = draw(st.lists(colons, min_size=1, max_size=5))

    def written(text: str) -> str:
        quoted = json.dumps(text)
        return quoted.replace(":", draw(st.sampled_from([":", r"\u003a", r"\u003A"])))

    members = ",".join(f"{written(key)} :{written(draw(colons))}" for key in keys)
    return call(f'[{{"deep":{{{members}}}}}]'.encode()), len(set(keys)) < len(keys)


@pytest.mark.promise("P8")
@given(keys_at_will())
def test_a_key_that_stands_twice_is_found_wherever_colons_stand_in_strings(drawn: tuple[bytes, bool]) -> None:
    body, twice = drawn
    # arguments are a list here, which JSON-RPC lets in; what a tool may be called with is not its business
    if twice:
        assert refusal(body) == "duplicate_key"
    else:
        assert read(body).method == "tools/call"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
@example(b"{" * 2000)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read(body)
    except Refused as refused:
        assert refused.code in CODES


pieces = st.sampled_from(
    [
        *(bytes([byte]) for byte in b'{}[]:,"\\0.e- \n\0\xff\xc3\xa9'),
        *(b"\\u", b"\\ud800", b"9" * 19, b"NaN", b"null", b"1e999", b"[" * 40, b"\xef\xbb\xbf"),
        *(b'"a":1,', b'"name":', b'"_meta":'),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good request with a few places overwritten, inserted or cut out."""
    body = bytearray(draw(bodies()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(pieces | st.just(b""))
    return bytes(body)


@pytest.mark.promise("P8")
@given(damaged())
@example(call(rb'{"a":"\ud83dx"}'))
@example(call(b'{"a":"\\"}'))
def test_what_is_let_in_is_what_the_slow_strict_reading_lets_in(body: bytes) -> None:
    """`read` asks msgspec and counts colons; the standard library, with a hook for each thing, comes to the same."""
    code = None
    try:
        read(body)
    except Refused as refused:
        code = refused.code
    assume(code != "payload_too_large")
    assert (code in NOT_JSON) == (not strictly_readable(body))


NOT_JSON = {
    "parse_error",
    "encoding_invalid",
    "duplicate_key",
    "number_out_of_range",
    "depth_exceeded",
    "batch_not_supported",
}


def strictly_readable(body: bytes) -> bool:
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_never,
            parse_int=_bounded,
            parse_float=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return not body.startswith(b"\xef\xbb\xbf") and not isinstance(value, list) and _depth(value) <= 32


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _never(number: str) -> Never:
    raise ValueError(number)


def _bounded(number: str) -> int:
    return int(number) if -(2**63) <= int(number) < 2**64 else _never(number)


def _finite(number: str) -> float:
    return float(number) if math.isfinite(float(number)) else _never(number)


def _depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


# ---------------------------------------------------------------- small things


@pytest.mark.parametrize(
    "spelling",
    [
        "tenant",
        "TENANT",
        "Tenant\0",
        "ten\u200bant",
        "ｔｅｎａｎｔ",
        " tenant",
        "te\u00adnant",
        "\ufefftenant",
        "tenan\u1d57",
    ],
)
def test_spellings_of_one_key_fold_to_it(spelling: str) -> None:
    assert fold(spelling) == "tenant"


def test_keys_that_only_look_alike_fold_to_themselves() -> None:
    assert fold("tеnant") != "tenant"  # a Cyrillic е is no spelling for any parser
    assert fold("tenant_id") == "tenant_id"


def test_an_error_says_its_code_and_its_data() -> None:
    assert json.loads(error_body("a", -32602, "Unknown tool: x", {"code": "tool_not_allowed", "call_id": None})) == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32602, "message": "Unknown tool: x", "data": {"code": "tool_not_allowed", "call_id": None}},
    }
    assert error_body(None, -32700, "no", {}) == b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}'
