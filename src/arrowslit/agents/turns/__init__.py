"""Turns: a session taken further, from a question to the end: the model speaks, its tools are called."""

from __future__ import annotations
