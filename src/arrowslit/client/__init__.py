"""What speaks to a relay from outside: the official SDK with our short form, and a lighter client for commands."""

from __future__ import annotations
