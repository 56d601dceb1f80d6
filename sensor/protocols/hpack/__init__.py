"""HPACK, RFC 7541: header compression for HTTP/2, read by a listener that may join late."""
