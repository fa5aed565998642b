"""What our reader of JSON lets in and writes anew is read alike by whatever may stand behind it: a server in Python
with any of four readers, or one on Node. 200,000 messages, bent as one seed decides.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import orjson
import pydantic_core
import pytest

from arrowslit.errors import CODES
from arrowslit.protocol.jsonrpc import MAX_ID, Refused, read, write
from requirements.node import node
from tests.fuzz.meaning import digest
from tests.fuzz.mutants import mutants
from tests.fuzz.seeds import JSON

COUNT = 200_000
SEED = 20_261_122
SEPARATOR = b"\x1e"  # no JSON holds it as it is; line ends stand between members
MEANING = Path(__file__).with_name("meaning.mjs")
READERS: dict[str, Callable[[bytes], object]] = {
    "json": json.loads,
    "orjson": orjson.loads,
    "msgspec": msgspec.json.decode,
    "pydantic-core": pydantic_core.from_json,
}
# what must be met often, or the test has not looked where readers disagree
MET = (
    "duplicate_key",
    "number_out_of_range",
    "encoding_invalid",
    "unknown_member",
    "depth_exceeded",
    "parse_error",
    "id_invalid",
)


def written_anew(body: bytes, refused: Counter[str]) -> bytes | None:
    """The message as it goes on, None if it does not. Anything but Refused is a crash."""
    try:
        message = read(body)
    except Refused as refusal:
        refused[refusal.code] += 1
        return None
    assert isinstance(message.id, str | None) or abs(message.id) <= MAX_ID
    return write(message)


def in_node(messages: list[bytes], folder: Path) -> list[str]:
    """What Node takes each for."""
    source, target = folder / "messages", folder / "meanings"
    source.write_bytes(b"".join(message + SEPARATOR for message in messages))
    subprocess.run([str(node()), str(MEANING), str(source), str(target)], check=True, timeout=120)
    return target.read_text().splitlines()


def test_what_is_let_in_is_read_alike_by_everybody(tmp_path: Path) -> None:
    refused: Counter[str] = Counter()
    passed: dict[bytes, str] = {}
    for body in mutants(JSON, COUNT, Random(SEED)):
        message = written_anew(body, refused)
        if message is None or message in passed:
            continue
        as_it_came = READERS["json"](body)
        values = [reader(message) for reader in READERS.values()]
        assert len({repr(value) for value in values}) == 1, dict(zip(READERS, values, strict=True))
        passed[message] = digest(values[0])
        assert digest(as_it_came) == passed[message], "it was something else before we wrote it anew"

    assert in_node(list(passed), tmp_path) == list(passed.values())
    assert refused.keys() <= CODES.keys()
    assert len(passed) > COUNT // 5
    assert min(refused[code] for code in MET) > 100, refused


@pytest.mark.parametrize(
    ("text", "met"),
    [
        (b"9223372036854775807", True),
        (b"-9223372036854775808", True),
        (b"18446744073709551615", True),
        (b"18446744073709551616", False),
        (b"-9223372036854775809", False),
        (b"1" + b"0" * 300, False),
    ],
)
def test_an_integer_is_exact_up_to_64_bits_and_refused_beyond(text: bytes, met: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":%s}}}' % text
    if not met:
        with pytest.raises(Refused) as refusal:
            read(body)
        assert refusal.value.code == "number_out_of_range"
        return
    for reader in READERS.values():
        value = reader(write(read(body)))
        assert isinstance(value, dict)
        assert value["params"]["arguments"]["n"] == int(text)


def test_a_reader_that_read_something_else_would_be_seen(tmp_path: Path) -> None:
    assert in_node([b'{"a":1}', b'{"a":1.5}', b"nonsense"], tmp_path)[:2] == [digest({"a": 1}), digest({"a": 1.5})]
    assert in_node([b'{"a":1}'], tmp_path) != [digest({"a": 2})]
    assert in_node([b'{"a":1}'], tmp_path) != [hashlib.sha1(b"", usedforsecurity=False).hexdigest()]
