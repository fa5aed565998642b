"""The demo's database alone, for those who build the loop by hand: `python -m arrowslit.demo.database`."""

from __future__ import annotations

import asyncio
import sys

from arrowslit.app.signals import signals
from arrowslit.demo.folders import temporary
from arrowslit.demo.postgres import Postgres
from arrowslit.demo.schema import ROWS, prepare
from arrowslit.errors import Error


async def serve() -> None:
    """Run PostgreSQL with the stock of two tenants in a temporary folder, until a signal."""
    leave = asyncio.Event()
    with signals(leave.set), temporary() as folder:
        async with Postgres(folder / "postgres") as server:
            dsn = await prepare(server)
            tenants = " and ".join(sorted({row.tenant for row in ROWS}))
            print(f"PostgreSQL listens on 127.0.0.1:{server.port} and holds the stock of {tenants}.")
            print("For the stock server:\n")
            print(f"  export INTERNAL_DB_DSN='{dsn}'\n")
            print("Ctrl-C stops it, and removes what it held.", flush=True)
            await leave.wait()


def main() -> None:
    """Exit with 0 once it was stopped, with 1 and a sentence if it cannot run."""
    try:
        asyncio.run(serve())
    except Error as error:
        sys.exit(f"arrowslit: {error.message}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
