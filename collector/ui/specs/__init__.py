"""API descriptions: upload, and what differs from what is seen."""
