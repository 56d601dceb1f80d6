"""The kernel's cache of known calls."""
