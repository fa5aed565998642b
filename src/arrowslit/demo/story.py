"""The story: what happens to callers of a private tool and to an agent that asks it, each checked against what is
really there.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from arrowslit.agent import CANNOT_CONFIRM
from arrowslit.demo.caller import Answer, Caller
from arrowslit.demo.stage import TUNNEL, Stage
from arrowslit.errors import Error
from arrowslit.ids import tunnel_id

STEP_SECONDS = 90.0  # one that takes longer is broken; the longest starts a connector
QUICKLY = 1.0  # seconds in which a caller hears that nobody serves the tunnel
ARRIVING = 25  # pieces that come in while the tunnel is cut
QUESTION = "How many BOLT8 do we have?"


class Seen(NamedTuple):
    """What a step saw: an outcome, and a sentence."""

    outcome: str | None
    detail: str


class Unexpected(Exception):
    """What came back is not what has to come back."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.detail)
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Scene:
    """What the steps share: the stage, one client that stays through all of it, and the refusals it was told."""

    stage: Stage
    acme: Caller
    refused: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """`title` says what is tried, `why` what it shows."""

    name: str
    title: str
    why: str
    play: Callable[[Scene], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Told:
    """How a step came out. `outcome` is that of the call it is about, None if it was not even made."""

    step: Step
    ok: bool
    outcome: str | None
    detail: str
    seconds: float


async def play(stage: Stage, tell: Callable[[Told], None]) -> bool:
    """Play all STEPS, telling of each; returns whether every one came out right.

    A step that fails does not end the story. Raises Error `demo_failed` if there is not even a client to tell it with.
    """
    *asking, looking_back = STEPS
    told: list[Told] = []
    try:
        async with stage.ask("acme") as acme:
            scene = Scene(stage, acme)
            for step in asking:
                told.append(await _played(step, scene))
                tell(told[-1])
    except Exception as error:
        raise Error("demo_failed", f"the client of acme failed: {_words(error)}", hint="read connector.log") from error
    told.append(await _played(looking_back, scene))
    tell(told[-1])
    return all(each.ok for each in told)


async def _played(step: Step, scene: Scene) -> Told:
    began = time.monotonic()
    try:
        async with asyncio.timeout(STEP_SECONDS):
            seen, ok = await step.play(scene), True
    except Unexpected as unexpected:
        seen, ok = unexpected.seen, False
    except Exception as error:  # whatever it was, the other steps are still worth telling
        seen, ok = Seen(None, _words(error)), False
    return Told(step, ok, seen.outcome, seen.detail, time.monotonic() - began)


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------- the checks


def _expect(holds: bool, otherwise: str, outcome: str | None = None) -> None:
    if not holds:
        raise Unexpected(Seen(outcome, otherwise))


def _expect_answer(answer: Answer, expected: dict[str, object]) -> None:
    right = answer.outcome == "result" and answer.content == expected
    _expect(right, f"{answer}, and not {expected}", answer.outcome)


def _expect_refusal(answer: Answer, outcome: str, *codes: str) -> None:
    right = answer.outcome == outcome and answer.code in codes
    _expect(right, f"{answer}, and not {outcome} ({' or '.join(codes)})", answer.outcome)


# ---------------------------------------------------------------- the steps


async def stock_found(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    _expect(there["found"] is True, "the table has no BOLT8 of acme")
    _expect_answer(answer, there)
    pieces = answer.content["quantity"] if answer.content else None
    return Seen(answer.outcome, f"acme has {pieces} pieces of BOLT8; PostgreSQL, asked directly, says the same")


async def unknown_sku_not_found(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "NOSUCH1")
    answer = await scene.acme.call("check_stock", sku="NOSUCH1")
    _expect(there["found"] is False, "the table has a NOSUCH1 of acme")
    _expect_answer(answer, there)
    return Seen(answer.outcome, "NOSUCH1 is not found; there is no quantity in the answer, not even 0")


async def other_tenant_not_found(scene: Scene) -> Seen:
    ours, theirs = [await scene.stage.stock(tenant, "LASER9") for tenant in ("acme", "globex")]
    _expect(theirs["found"] is True and ours["found"] is False, "LASER9 is not something that only globex has")
    claims = {"tenant": "globex", "dev.arrowslit/tenant": "globex"}
    for answer in (
        await scene.acme.call("check_stock", sku="LASER9"),
        await scene.acme.call("check_stock", claims, sku="LASER9"),
    ):
        _expect_answer(answer, ours)
    async with scene.stage.ask("globex") as globex:
        _expect_answer(await globex.call("check_stock", sku="LASER9"), theirs)
    return Seen("result", "globex is told what it has of LASER9; to acme it does not exist, whoever acme says it is")


async def no_tenant_denied(scene: Scene) -> Seen:
    async with scene.stage.ask("nobody", greet=False) as nobody:
        answer = await nobody.call("check_stock", sku="BOLT8")
    _expect_refusal(answer, "denied", "tenant_required")
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code}: {answer.said}")


async def unlisted_tool_hidden(scene: Scene) -> Seen:
    async with scene.stage.ask("auditor") as auditor:
        theirs = await auditor.tools()
    ours = await scene.acme.tools()
    _expect("adjust_stock" in theirs, f"the server has no adjust_stock to hide: the auditor is shown {theirs}")
    _expect(ours == ["check_stock"], f"the agent is shown {ours}")
    return Seen("result", "the server has adjust_stock as well, but this agent is shown check_stock alone")


async def unlisted_tool_refused(scene: Scene) -> Seen:
    before = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("adjust_stock", sku="BOLT8", delta=-1)
    after = await scene.stage.stock("acme", "BOLT8")
    _expect_refusal(answer, "denied", "tool_not_allowed")
    _expect(before == after, f"it was executed: {before} became {after}", answer.outcome)
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code}: {answer.said}; there are {after['quantity']} of BOLT8 as before")


async def new_tool_invisible(scene: Scene) -> Seen:
    async with scene.stage.ask("auditor") as auditor:
        before = await auditor.tools()
        scene.stage.grow()
        after = await auditor.tools()
    _expect("export_inventory" not in before, "export_inventory was there before")
    _expect("export_inventory" in after, f"the server has not grown: the auditor is shown {after}")
    ours = await scene.acme.tools()
    _expect(ours == ["check_stock"], f"the agent is shown {ours}")
    answer = await scene.acme.call("export_inventory")
    _expect_refusal(answer, "denied", "tool_not_allowed")
    scene.refused.append(answer)
    return Seen(answer.outcome, "the server has grown export_inventory; this agent is not shown it and may not call it")


async def tunnel_cut_not_delivered(scene: Scene) -> Seen:
    await scene.stage.connector.kill()
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    _expect_refusal(answer, "not_delivered", "no_connector", "not_started")
    _expect(answer.seconds < QUICKLY, f"the caller waited for {answer.seconds:.1f} s", answer.outcome)
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code} after {answer.seconds * 1000:.0f} ms: {answer.said}")


async def reconnected_result(scene: Scene) -> Seen:
    await scene.stage.arrive("acme", "BOLT8", ARRIVING)
    began = time.monotonic()
    opened = await scene.stage.connector.start()
    seconds = time.monotonic() - began
    _expect(opened == tunnel_id(TUNNEL), f"the connector opened {opened}")
    there = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    _expect_answer(answer, there)
    quantity = f"{there['quantity']}, the {ARRIVING} that came in meanwhile included"
    return Seen(answer.outcome, f"{opened} was open again after {seconds:.1f} s; the same client hears {quantity}")


# ---------------------------------------------------------------- the agent


async def agent_answer(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "BOLT8")
    return _told(await scene.stage.question("acme", QUESTION), there)


async def agent_never_saw_unlisted_tool(scene: Scene) -> Seen:
    """In all that was sent to the model so far."""
    async with scene.stage.ask("auditor") as auditor:
        there = await auditor.tools()
    _expect("adjust_stock" in there, f"the server has no adjust_stock to hide: the auditor is shown {there}")
    offered = {tool for record in scene.stage.records("model_request") for tool in record["tools"]}
    _expect(offered == {f"{TUNNEL}__check_stock"}, f"the model was offered {sorted(offered)}")
    return Seen("result", f"the server has {', '.join(sorted(there))} as well; the model was offered check_stock alone")


async def agent_cannot_confirm(scene: Scene) -> Seen:
    before = len(scene.stage.records("model_request"))
    async with scene.stage.held_up(), asyncio.TaskGroup() as group:
        asking = group.create_task(scene.stage.question("acme", f"{QUESTION} If you cannot check it, guess."))
        await scene.stage.waiting()
        await scene.stage.connector.kill()
    status, said = asking.result()
    asked = len(scene.stage.records("model_request")) - before
    unconfirmed = said["unconfirmed"]
    outcome = unconfirmed[0]["outcome"] if unconfirmed else None
    sentence = CANNOT_CONFIRM.replace("{tool}", "check_stock").replace("{server}", TUNNEL)
    _expect(status == 3 and said["answer"] == sentence, f"ask ends with {status} and says {said['answer']!r}", outcome)
    _expect(outcome == "outcome_unknown", f"{unconfirmed}, and not one unknown outcome", outcome)
    _expect(asked == 1, f"the model was asked {asked} times, and not once", outcome)
    return Seen(
        outcome, f'it says "{sentence}"; {unconfirmed[0]["call_id"]} is unknown, and the model was not asked again'
    )


async def agent_answer_after_reconnect(scene: Scene) -> Seen:
    await scene.stage.arrive("acme", "BOLT8", ARRIVING)
    await scene.stage.connector.start()
    there = await scene.stage.stock("acme", "BOLT8")
    return _told(await scene.stage.question("acme", QUESTION), there)


def _told(asked: tuple[int, dict[str, Any]], there: dict[str, object]) -> Seen:
    status, said = asked
    quantity = str(there["quantity"])
    right = status == 0 and re.search(rf"\b{quantity}\b", said["answer"]) is not None and not said["unconfirmed"]
    _expect(right, f"ask ends with {status} and says {said['answer']!r}, and not {quantity}")
    return Seen("result", f'it says "{said["answer"]}"; PostgreSQL, asked directly, says {quantity}')


# ---------------------------------------------------------------- looking back


async def ledger_verified(scene: Scene) -> Seen:
    stage = scene.stage
    await stage.relay.stop()
    status, report = await stage.verify()
    _expect(status == 0 and report["ok"] and report["head"] == report["records"], f"verify says {report}")
    lines = b"".join(segment.read_bytes() for segment in stage.segments()).splitlines()
    _expect(len(lines) == report["records"], f"{len(lines)} lines, and verify says {report}")
    for answer in scene.refused:
        recorded = any(f'"{answer.call_id}"'.encode() in line for line in lines)
        _expect(recorded, f"the refusal that the caller knows as {answer.call_id} is not recorded")
    stage.tamper(b'"tenant":"globex"', b'"tenant":"globey"')
    status, forged = await stage.verify("tampered")
    _expect(status == 1 and not forged["ok"], f"one letter was changed in a copy, and verify says {forged}")
    found = f"in a copy with one letter changed verify names record {forged['first_bad']['seq']}"
    return Seen("result", f"{report['records']} records, signed up to the last, every refusal among them; {found}")


STEPS = (
    Step(
        "stock_found",
        "An agent asks what its tenant has",
        "The question went from the client to the relay, and through the tunnel that the connector opened to a server "
        "that can be reached in no other way.",
        stock_found,
    ),
    Step(
        "unknown_sku_not_found",
        "It asks for something that nobody has",
        "A plain question gets a plain answer: no error to explain away, and no number to guess from.",
        unknown_sku_not_found,
    ),
    Step(
        "other_tenant_not_found",
        "It asks for what only another tenant has, and claims to be that tenant",
        "The tenant comes from the key. What a client writes about it is taken out on the way; the statement names the "
        "tenant, and under it lies the row-level security of PostgreSQL.",
        other_tenant_not_found,
    ),
    Step(
        "no_tenant_denied",
        "Somebody asks with a key that belongs to no tenant",
        "Whose data a call may touch is known before it leaves the relay, or it does not leave.",
        no_tenant_denied,
    ),
    Step(
        "unlisted_tool_hidden",
        "The agent looks at the tools of the server",
        "An agent may use what somebody listed for it. The rest does not appear.",
        unlisted_tool_hidden,
    ),
    Step(
        "unlisted_tool_refused",
        "It calls adjust_stock all the same",
        "Refused at the relay: the call never entered the tunnel, and looks to the client like any unknown tool.",
        unlisted_tool_refused,
    ),
    Step(
        "new_tool_invisible",
        "The server grows a tool while everybody is connected",
        "A new tool is nobody's until a person lists it. It was listed for the auditor, who sees it at once.",
        new_tool_invisible,
    ),
    Step(
        "tunnel_cut_not_delivered",
        "The connector is killed (kill -9), and the agent asks again",
        "`not_delivered` is a promise: nothing was executed. The caller can say that it cannot know right now, and may "
        "safely ask again later.",
        tunnel_cut_not_delivered,
    ),
    Step(
        "reconnected_result",
        "The connector is started again",
        "Same tunnel, same key, and nothing to restart on the side of the caller.",
        reconnected_result,
    ),
    Step(
        "agent_answer",
        "A person asks an agent",
        "The model decides what to look up; the platform decides what it may. Its call went the same way as all the "
        "others: same allowlist, same tenant, same ledger.",
        agent_answer,
    ),
    Step(
        "agent_never_saw_unlisted_tool",
        "We look at all that the model was offered",
        "What a model has never seen it cannot be talked into. And if it names a tool all the same, the gate refuses.",
        agent_never_saw_unlisted_tool,
    ),
    Step(
        "agent_cannot_confirm",
        "The connector is killed while the agent's question is in the database, and the agent was told to guess",
        "Nobody knows what became of the call, so nobody claims to: the platform ends the turn with a fixed sentence. "
        "It does not rest on the model's good manners, for the model is not asked.",
        agent_cannot_confirm,
    ),
    Step(
        "agent_answer_after_reconnect",
        "The connector is started again, and the same question is asked",
        "The figure is the one that is there now, not one that somebody remembered.",
        agent_answer_after_reconnect,
    ),
    Step(
        "ledger_verified",
        "The relay is stopped, and its ledger is checked",
        "Each record holds the hash of the one before it, and the last one is signed: nobody changes one without the "
        "key and is not found.",
        ledger_verified,
    ),
)
