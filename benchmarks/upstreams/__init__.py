"""The MCP servers that are called: one that costs next to nothing, over HTTP and over stdio, and one as people have
it.
"""
