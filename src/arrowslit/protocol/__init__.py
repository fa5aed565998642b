"""PURE: bytes in, events out. Imports nothing of ours and does no I/O."""
