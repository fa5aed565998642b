"""Contestants: arrowslit, and what people would use in its place; one file each."""
