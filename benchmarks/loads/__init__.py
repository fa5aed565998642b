"""Loads: what is done to a contestant, and what came of it."""
