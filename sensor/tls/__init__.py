"""Plain text of TLS, read where processes hand it to their libraries (docs/tls.md)."""
