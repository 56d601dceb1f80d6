"""Bodies: decoding, documents, their values."""
