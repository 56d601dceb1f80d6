"""HTTP/2: frames, header blocks and streams of one connection."""
