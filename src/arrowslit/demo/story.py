"""The story: its steps in their order, and how they are played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from arrowslit.demo import agent_steps, sandbox_steps, tool_steps
from arrowslit.demo.sandbox import POSSIBLE
from arrowslit.demo.scene import Scene, Seen, Step, Told, Unexpected
from arrowslit.demo.stage import Stage
from arrowslit.errors import Error

STEP_SECONDS = 90.0  # one that takes longer is broken; the longest starts a connector


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


WITH_CODE = (
    Step(
        "sandbox_aggregate",
        "A person asks for a figure that nobody has: an agent looks up three things, and adds them up with code",
        "The code ran in a sandbox of its own, on a machine beside the data. For each execution the worker's record "
        "stands in the ledger: hashes of code and output, and what stood around it.",
        sandbox_steps.sandbox_aggregate,
    ),
    Step(
        "sandbox_egress_denied",
        "It is told to send what it knows to a host on the internet, and its code tries",
        "A sandbox has no network. The one way out is a proxy that reaches only hosts which somebody allowed, and "
        "records each try.",
        sandbox_steps.sandbox_egress_denied,
    ),
)

STEPS = (
    Step(
        "stock_found",
        "An agent asks what its tenant has",
        "The question went from the client to the relay, and through the tunnel that the connector opened to a server "
        "that can be reached in no other way.",
        tool_steps.stock_found,
    ),
    Step(
        "unknown_sku_not_found",
        "It asks for something that nobody has",
        "A plain question gets a plain answer: no error to explain away, and no number to guess from.",
        tool_steps.unknown_sku_not_found,
    ),
    Step(
        "other_tenant_not_found",
        "It asks for what only another tenant has, and claims to be that tenant",
        "The tenant comes from the key. What a client writes about it is taken out on the way; the statement names the "
        "tenant, and under it lies the row-level security of PostgreSQL.",
        tool_steps.other_tenant_not_found,
    ),
    Step(
        "no_tenant_denied",
        "Somebody asks with a key that belongs to no tenant",
        "Whose data a call may touch is known before it leaves the relay, or it does not leave.",
        tool_steps.no_tenant_denied,
    ),
    Step(
        "unlisted_tool_hidden",
        "The agent looks at the tools of the server",
        "An agent may use what somebody listed for it. The rest does not appear.",
        tool_steps.unlisted_tool_hidden,
    ),
    Step(
        "unlisted_tool_refused",
        "It calls adjust_stock all the same",
        "Refused at the relay: the call never entered the tunnel, and looks to the client like any unknown tool.",
        tool_steps.unlisted_tool_refused,
    ),
    Step(
        "new_tool_invisible",
        "The server grows a tool while everybody is connected",
        "A new tool is nobody's until a person lists it. It was listed for the auditor, who sees it at once.",
        tool_steps.new_tool_invisible,
    ),
    Step(
        "tunnel_cut_not_delivered",
        "The connector is killed (kill -9), and the agent asks again",
        "`not_delivered` is a promise: nothing was executed. The caller can say that it cannot know right now, and may "
        "safely ask again later.",
        tool_steps.tunnel_cut_not_delivered,
    ),
    Step(
        "reconnected_result",
        "The connector is started again",
        "Same tunnel, same key, and nothing to restart on the side of the caller.",
        tool_steps.reconnected_result,
    ),
    Step(
        "agent_answer",
        "A person asks an agent",
        "The model decides what to look up; the platform decides what it may. Its call went the same way as all the "
        "others: same allowlist, same tenant, same ledger.",
        agent_steps.agent_answer,
    ),
    Step(
        "agent_never_saw_unlisted_tool",
        "We look at all that the model was offered",
        "What a model has never seen it cannot be talked into. And if it names a tool all the same, the gate refuses.",
        agent_steps.agent_never_saw_unlisted_tool,
    ),
    Step(
        "agent_cannot_confirm",
        "The connector is killed while the agent's question is in the database, and the agent was told to guess",
        "Nobody knows what became of the call, so nobody claims to: the platform ends the turn with a fixed sentence. "
        "It does not rest on the model's good manners, for the model is not asked.",
        agent_steps.agent_cannot_confirm,
    ),
    Step(
        "agent_answer_after_reconnect",
        "The connector is started again, and the same question is asked",
        "The figure is the one that is there now, not one that somebody remembered.",
        agent_steps.agent_answer_after_reconnect,
    ),
    *(WITH_CODE if POSSIBLE else ()),
    Step(
        "ledger_verified",
        "The relay is stopped, and its ledger is checked",
        "Each record holds the hash of the one before it, and the last one is signed: nobody changes one without the "
        "key and is not found.",
        tool_steps.ledger_verified,
    ),
)
