"""Tokens of other issuers: which issuers are believed, with what keys, and who a token stands for."""

from __future__ import annotations
