"""What the façade is made of: sessions, and the shared conversation, with servers that speak line by line."""

from __future__ import annotations
