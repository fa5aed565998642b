"""The command line: one file per command, what they say to a person in `speak.py`."""
