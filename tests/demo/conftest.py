"""The fixtures that these tests share with others."""

from __future__ import annotations

from tests.fixtures_postgres import postgres, stock_dsn

__all__ = ["postgres", "stock_dsn"]
