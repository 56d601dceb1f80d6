"""One endpoint."""
