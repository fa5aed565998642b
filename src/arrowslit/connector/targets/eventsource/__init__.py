"""What the target of the 2024 transport is made of: event streams that stand for the processes of a stdio target."""

from __future__ import annotations
