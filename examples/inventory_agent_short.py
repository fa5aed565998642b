#!/usr/bin/env python3
"""The same agent in the short form: `arrowslit.Client` is the official SDK, and takes a few words less.

export ARROWSLIT_RELAY=http://127.0.0.1:8420
export ARROWSLIT_API_KEY=asl_sk_…      # arrowslit key create --scope admin --tenant acme
python examples/inventory_agent_short.py "How many BOLT8 do we have?"
"""

from __future__ import annotations

import sys

import arrowslit


def main(question: str) -> int:
    """Ask, and print the answer. Returns 3 if something in it could not be confirmed."""
    client = arrowslit.Client()  # finds relay and key as the command line does
    agent = client.beta.agents.create(
        name="inventory",
        model="claude-opus-5-5",
        instructions="You answer questions about stock. Look it up; never guess.",
        mcp_servers=[
            {"type": "tunnel", "tunnel_id": "tnl_internal_inventory", "tool_allowlist": ["check_stock"]},
        ],
    )
    session = client.beta.sessions.create(agent=agent.id)

    with client.beta.sessions.events.stream(session.id) as events:
        client.beta.sessions.events.send(
            session.id,
            events=[{"type": "user.message", "content": [{"type": "text", "text": question}]}],
        )
        for event in events:
            if event.type == "agent.message":
                print("".join(block.text for block in event.content if block.type == "text"))
            elif event.type == "session.status_idle" and event.stop_reason.type != "requires_action":
                return 3 if getattr(event, "unconfirmed", None) else 0
    return 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "How many BOLT8 do we have?"))
