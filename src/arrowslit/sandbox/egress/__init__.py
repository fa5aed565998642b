"""The only way out of a sandbox: a proxy on a listener that was handed out of its network namespace."""

from __future__ import annotations
