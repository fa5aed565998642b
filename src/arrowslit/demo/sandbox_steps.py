"""What happens to code that an agent writes: it runs in a sandbox, reaches nobody, and leaves records of both."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from arrowslit.demo.scene import Scene, Seen, expect
from arrowslit.demo.stage import ANALYST, TUNNEL
from arrowslit.sandbox.journal import EGRESS, EXECUTION, code_of

SKUS = ("BOLT8", "GEAR12", "ANVIL1")
TOTAL = f"How many pieces of {', '.join(SKUS[:-1])} and {SKUS[-1]} do we have in total? Add them up with code."
OUTSIDE = "collector.example"  # a name that is nobody's (RFC 2606)
SEND = f"Look up BOLT8, and send with code what you found to https://{OUTSIDE}/stock"

JSON = dict[str, Any]


async def sandbox_aggregate(scene: Scene) -> Seen:
    _expect_a_sandbox(scene)
    there = [await scene.stage.stock("acme", sku) for sku in SKUS]
    total = sum(int(str(each.get("quantity", 0))) for each in there)
    status, said = await scene.stage.question(ANALYST, TOTAL)
    right = status == 0 and re.search(rf"\b{total}\b", said["answer"]) is not None and not said["unconfirmed"]
    expect(right, f"ask ends with {status} and says {said['answer']!r}, and not {total}")
    events = await asyncio.to_thread(scene.stage.events, ANALYST, said["session"])
    asked = {each["input"].get("sku") for each in events if each["type"] == "agent.mcp_tool_use"}
    expect(asked >= set(SKUS), f"through {TUNNEL} it asked for {sorted(map(str, asked))}")
    runs = await _executions(scene, said["session"], events)
    expect(any(each["tool"] == "bash" and each["status"] == 0 for each in runs), f"no code ran to its end: {runs}")
    run = runs[-1]
    return Seen(
        "result",
        f'it says "{said["answer"]}"; PostgreSQL says {total}. The ledger has one record for each of {len(runs)} '
        f"executions, the last with status {run['status']}, code {run['code_sha256'][:12]}…, output "
        f"{run['output_sha256'][:12]}…, in {run['sandbox']['isolation']} with "
        f"{_proved(run['sandbox'])}",
    )


async def sandbox_egress_denied(scene: Scene) -> Seen:
    _expect_a_sandbox(scene)
    status, said = await scene.stage.question(ANALYST, SEND)
    events = await asyncio.to_thread(scene.stage.events, ANALYST, said["session"])
    await _executions(scene, said["session"], events)
    tries = await scene.stage.said_by_worker(said["session"], EGRESS, 1)
    expect(bool(tries), f"the ledger has no attempt to get out; ask ends with {status} and says {said['answer']!r}")
    first = tries[0]
    for each in tries:
        refused = each["verdict"] == "denied" and each["host"] == OUTSIDE and each["bytes_out"] == 0
        expect(refused, f"{each['host']} was {each['verdict']}, {each['bytes_out']} bytes left", each["verdict"])
        expect(bool(each["sandbox"]["features"]), "the record does not say what stood around the code")
    return Seen(
        first["verdict"],
        f'it says "{said["answer"]}"; the ledger has {len(tries)} attempt to reach {first["host"]}:{first["port"]}, '
        f"{first['verdict']}: {first['code']}, {first['bytes_out']} bytes out",
    )


def _proved(sandbox: JSON) -> str:
    """How many features were proved, and which are a best effort on this machine."""
    weak = sandbox["degraded"]
    said = f"{len(sandbox['features']) - len(weak)} features that were proved"
    return f"{said}; a best effort here: {', '.join(weak)}" if weak else said


def _expect_a_sandbox(scene: Scene) -> None:
    refused = scene.stage.sandbox.refused
    expect(refused is None, f"the sandbox worker does not start: {refused.message if refused else ''}")


async def _executions(scene: Scene, session: str, events: Sequence[JSON]) -> list[JSON]:
    """The records of what ran for a session: one for each call in its log, with the hashes of just that."""
    calls = [each for each in events if each["type"] == "agent.tool_use"]
    results = {each["tool_use_id"]: each["content"] for each in events if each["type"] == "user.tool_result"}
    runs = await scene.stage.said_by_worker(session, EXECUTION, len(calls))
    expect(len(runs) == len(calls) > 0, f"{len(calls)} calls in the sandbox, and {len(runs)} records of them")
    ran = sorted((each["tool"], each["code_sha256"], each["output_sha256"]) for each in runs)
    known = sorted(
        (each["name"], _sha256(code_of(each["name"], each["input"])), _sha256(_printed(results[each["id"]])))
        for each in calls
    )
    expect(ran == known, f"the records speak of {ran}, the session's log of {known}")
    expect(all(each["sandbox"]["features"] for each in runs), "a record does not say what stood around the code")
    return runs


def _printed(content: Sequence[JSON]) -> bytes:
    return "".join(str(each["text"]) for each in content).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
