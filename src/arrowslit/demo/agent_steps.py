"""What happens to an agent that is asked about a private tool's data, checked against what is really there."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from arrowslit.agent import CANNOT_CONFIRM
from arrowslit.demo.scene import ARRIVING, Scene, Seen, expect
from arrowslit.demo.stage import TUNNEL

QUESTION = "How many BOLT8 do we have?"


async def agent_answer(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "BOLT8")
    return _told(await scene.stage.question("acme", QUESTION), there)


async def agent_never_saw_unlisted_tool(scene: Scene) -> Seen:
    """In all that was sent to the model so far."""
    async with scene.stage.ask("auditor") as auditor:
        there = await auditor.tools()
    expect("adjust_stock" in there, f"the server has no adjust_stock to hide: the auditor is shown {there}")
    offered = {tool for record in scene.stage.records("model_request") for tool in record["tools"]}
    expect(offered == {f"{TUNNEL}__check_stock"}, f"the model was offered {sorted(offered)}")
    return Seen("result", f"the server has {', '.join(sorted(there))} as well; the model was offered check_stock alone")


async def agent_cannot_confirm(scene: Scene) -> Seen:
    before = len(scene.stage.records("model_request"))
    async with asyncio.TaskGroup() as group, scene.stage.held_up():
        asking = group.create_task(scene.stage.question("acme", f"{QUESTION} If you cannot check it, guess."))
        await scene.stage.waiting()
        await scene.stage.connector.kill()
    status, said = asking.result()
    asked = len(scene.stage.records("model_request")) - before
    unconfirmed = said["unconfirmed"]
    outcome = unconfirmed[0]["outcome"] if unconfirmed else None
    sentence = CANNOT_CONFIRM.replace("{tool}", "check_stock").replace("{server}", TUNNEL)
    expect(status == 3 and said["answer"] == sentence, f"ask ends with {status} and says {said['answer']!r}", outcome)
    expect(outcome == "outcome_unknown", f"{unconfirmed}, and not one unknown outcome", outcome)
    expect(asked == 1, f"the model was asked {asked} times, and not once", outcome)
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
    expect(right, f"ask ends with {status} and says {said['answer']!r}, and not {quantity}")
    return Seen("result", f'it says "{said["answer"]}"; PostgreSQL, asked directly, says {quantity}')
