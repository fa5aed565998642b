"""The machine that is measured on: processes, what they take, and a network that is longer than it is."""
