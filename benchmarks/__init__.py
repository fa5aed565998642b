"""What arrowslit costs: the same calls through it and through what people would use in its place, in one run.

`make bench` runs it; docs/performance.md says what is measured and how to read it.
"""
