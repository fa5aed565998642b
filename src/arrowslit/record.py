"""Record of the ledger, and the port Ledger: what cannot be recorded does not happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Fields = Mapping[str, object]
"""The facts of a record: JSON values only. Never an argument, a result or a secret in clear."""


class Ledger(Protocol):
    """The tamper-evident record of what was asked and how it ended."""

    async def append(self, kind: str, fields: Fields) -> int:
        """Write one record; return its sequence number once the write has left the process (P12).

        Raises Error `ledger_unavailable` if it could not be written; then nothing was. The `outcome` of a call that
        was asked is kept in memory instead and written as soon as that is possible, for it has happened.
        """
        ...

    def digest(self, data: bytes) -> str:
        """A keyed fingerprint of `data` (hex): a record can be matched with what was sent, and reveals nothing."""
        ...
