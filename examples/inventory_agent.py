#!/usr/bin/env python3
"""An agent that looks up stock in a private database, with the official SDK and another base URL.

    export ARROWSLIT_RELAY=http://127.0.0.1:8420
    export ARROWSLIT_API_KEY=asl_sk_…      # arrowslit key create --scope admin --tenant acme
    python examples/inventory_agent.py "How many BOLT8 do we have?"

The relay runs with --model, and a connector serves the tunnel `internal-inventory`.
"""

from __future__ import annotations

import os
import sys

import anthropic


def main(question: str) -> int:
    """Ask, and print the answer. Returns 3 if something in it could not be confirmed."""
    client = anthropic.Anthropic(
        base_url=os.environ["ARROWSLIT_RELAY"].partition("#")[0],
        api_key=os.environ["ARROWSLIT_API_KEY"],
    )
    tunnel = client.beta.tunnels.retrieve("tnl_internal_inventory")
    agent = client.beta.agents.create(
        name="inventory",
        model="claude-opus-5-5",
        system="You answer questions about stock. Look it up; never guess.",
        mcp_servers=[{"type": "url", "name": "inventory", "url": f"https://inventory.{tunnel.domain}/mcp"}],
        tools=[
            {
                "type": "mcp_toolset",
                "mcp_server_name": "inventory",
                "default_config": {"enabled": False},  # a tool that the server grows later stays invisible
                "configs": [
                    {"name": "check_stock", "enabled": True, "permission_policy": {"type": "always_allow"}},
                ],
            }
        ],
    )
    environment = client.beta.environments.create(name="inventory", config={"type": "self_hosted"})
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)

    with client.beta.sessions.events.stream(session.id) as events:
        client.beta.sessions.events.send(
            session.id,
            events=[{"type": "user.message", "content": [{"type": "text", "text": question}]}],
        )
        for event in events:
            if event.type == "agent.mcp_tool_use":
                print(f"-> {event.mcp_server_name}.{event.name} {event.input}", file=sys.stderr)
            elif event.type == "agent.message":
                print("".join(block.text for block in event.content if block.type == "text"))
            elif event.type == "session.error":
                print(f"error: {event.error.message}", file=sys.stderr)
            elif event.type == "session.status_idle" and event.stop_reason.type != "requires_action":
                return 3 if getattr(event, "unconfirmed", None) else 0
    return 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "How many BOLT8 do we have?"))
