"""A worker of the SDK in a process of its own, to be killed or stopped: BASE_URL ENVIRONMENT KEY WORKDIR."""

from __future__ import annotations

import asyncio
import sys

import anthropic
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401


async def main(url: str, environment: str, key: str, workdir: str) -> None:
    """Serve the environment for ever."""
    async with anthropic.AsyncAnthropic(base_url=url, auth_token=key) as client:
        await client.beta.environments.work.worker(
            environment_id=environment, environment_key=key, workdir=workdir, tools=beta_agent_toolset_20260401
        ).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
