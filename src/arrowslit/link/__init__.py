"""The I/O around a Peer, the same at both ends of the tunnel."""
