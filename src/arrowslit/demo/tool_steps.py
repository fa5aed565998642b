"""What happens to callers of a private tool, each checked against what is really there."""

from __future__ import annotations

import time

from arrowslit.demo.scene import ARRIVING, Scene, Seen, expect, expect_answer, expect_refusal
from arrowslit.demo.stage import TUNNEL
from arrowslit.ids import tunnel_id

QUICKLY = 1.0  # seconds in which a caller hears that nobody serves the tunnel


async def stock_found(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    expect(there["found"] is True, "the table has no BOLT8 of acme")
    expect_answer(answer, there)
    pieces = answer.content["quantity"] if answer.content else None
    return Seen(answer.outcome, f"acme has {pieces} pieces of BOLT8; PostgreSQL, asked directly, says the same")


async def unknown_sku_not_found(scene: Scene) -> Seen:
    there = await scene.stage.stock("acme", "NOSUCH1")
    answer = await scene.acme.call("check_stock", sku="NOSUCH1")
    expect(there["found"] is False, "the table has a NOSUCH1 of acme")
    expect_answer(answer, there)
    return Seen(answer.outcome, "NOSUCH1 is not found; there is no quantity in the answer, not even 0")


async def other_tenant_not_found(scene: Scene) -> Seen:
    ours, theirs = [await scene.stage.stock(tenant, "LASER9") for tenant in ("acme", "globex")]
    expect(theirs["found"] is True and ours["found"] is False, "LASER9 is not something that only globex has")
    claims = {"tenant": "globex", "dev.arrowslit/tenant": "globex"}
    for answer in (
        await scene.acme.call("check_stock", sku="LASER9"),
        await scene.acme.call("check_stock", claims, sku="LASER9"),
    ):
        expect_answer(answer, ours)
    async with scene.stage.ask("globex") as globex:
        expect_answer(await globex.call("check_stock", sku="LASER9"), theirs)
    return Seen("result", "globex is told what it has of LASER9; to acme it does not exist, whoever acme says it is")


async def no_tenant_denied(scene: Scene) -> Seen:
    async with scene.stage.ask("nobody", greet=False) as nobody:
        answer = await nobody.call("check_stock", sku="BOLT8")
    expect_refusal(answer, "denied", "tenant_required")
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code}: {answer.said}")


async def unlisted_tool_hidden(scene: Scene) -> Seen:
    async with scene.stage.ask("auditor") as auditor:
        theirs = await auditor.tools()
    ours = await scene.acme.tools()
    expect("adjust_stock" in theirs, f"the server has no adjust_stock to hide: the auditor is shown {theirs}")
    expect(ours == ["check_stock"], f"the agent is shown {ours}")
    return Seen("result", "the server has adjust_stock as well, but this agent is shown check_stock alone")


async def unlisted_tool_refused(scene: Scene) -> Seen:
    before = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("adjust_stock", sku="BOLT8", delta=-1)
    after = await scene.stage.stock("acme", "BOLT8")
    expect_refusal(answer, "denied", "tool_not_allowed")
    expect(before == after, f"it was executed: {before} became {after}", answer.outcome)
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code}: {answer.said}; there are {after['quantity']} of BOLT8 as before")


async def new_tool_invisible(scene: Scene) -> Seen:
    async with scene.stage.ask("auditor") as auditor:
        before = await auditor.tools()
        scene.stage.grow()
        after = await auditor.tools()
    expect("export_inventory" not in before, "export_inventory was there before")
    expect("export_inventory" in after, f"the server has not grown: the auditor is shown {after}")
    ours = await scene.acme.tools()
    expect(ours == ["check_stock"], f"the agent is shown {ours}")
    answer = await scene.acme.call("export_inventory")
    expect_refusal(answer, "denied", "tool_not_allowed")
    scene.refused.append(answer)
    return Seen(answer.outcome, "the server has grown export_inventory; this agent is not shown it and may not call it")


async def tunnel_cut_not_delivered(scene: Scene) -> Seen:
    await scene.stage.connector.kill()
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    expect_refusal(answer, "not_delivered", "no_connector", "not_started")
    expect(answer.seconds < QUICKLY, f"the caller waited for {answer.seconds:.1f} s", answer.outcome)
    scene.refused.append(answer)
    return Seen(answer.outcome, f"{answer.code} after {answer.seconds * 1000:.0f} ms: {answer.said}")


async def reconnected_result(scene: Scene) -> Seen:
    await scene.stage.arrive("acme", "BOLT8", ARRIVING)
    began = time.monotonic()
    opened = await scene.stage.connector.start()
    seconds = time.monotonic() - began
    expect(opened == tunnel_id(TUNNEL), f"the connector opened {opened}")
    there = await scene.stage.stock("acme", "BOLT8")
    answer = await scene.acme.call("check_stock", sku="BOLT8")
    expect_answer(answer, there)
    quantity = f"{there['quantity']}, the {ARRIVING} that came in meanwhile included"
    return Seen(answer.outcome, f"{opened} was open again after {seconds:.1f} s; the same client hears {quantity}")


async def ledger_verified(scene: Scene) -> Seen:
    stage = scene.stage
    await stage.relay.stop()
    status, report = await stage.verify()
    expect(status == 0 and report["ok"] and report["head"] == report["records"], f"verify says {report}")
    lines = b"".join(segment.read_bytes() for segment in stage.segments()).splitlines()
    expect(len(lines) == report["records"], f"{len(lines)} lines, and verify says {report}")
    for answer in scene.refused:
        recorded = any(f'"{answer.call_id}"'.encode() in line for line in lines)
        expect(recorded, f"the refusal that the caller knows as {answer.call_id} is not recorded")
    stage.tamper(b'"tenant":"globex"', b'"tenant":"globey"')
    status, forged = await stage.verify("tampered")
    expect(status == 1 and not forged["ok"], f"one letter was changed in a copy, and verify says {forged}")
    found = f"in a copy with one letter changed verify names record {forged['first_bad']['seq']}"
    return Seen("result", f"{report['records']} records, signed up to the last, every refusal among them; {found}")
