"""Scenarios: what is asked of the contestants, one file each. They share the order, so that a run is one story."""
