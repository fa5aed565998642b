"""The model behind a port: a provider that speaks the Messages API, and scripted ones that say so."""

from __future__ import annotations
