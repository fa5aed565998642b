"""The tools of an agent that act in its sandbox: bash, read, write, edit, glob, grep."""
