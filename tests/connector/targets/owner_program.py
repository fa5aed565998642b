"""A connector's place in a test that kills it: runs the raw server, prints the ids of all its processes, and waits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.connector.targets.facade_kit import call, open_session, raw, send
from tests.support.processes import below


async def main() -> None:
    async with raw(Path(sys.argv[1]), "dual", "stubborn") as facade:
        session = await open_session(facade)
        await send(facade, call("fork"), session=session)
        await send(facade, call("fork", modern=True))
        print(*[child.pid for child in below()], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
