"""What the HTTP target is made of: where it may connect, what it sends, and the connections it keeps."""

from __future__ import annotations
