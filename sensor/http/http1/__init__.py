"""HTTP/1: heads, the messages of one direction, and requests matched with responses."""
