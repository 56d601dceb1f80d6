"""Fills the kernel's cache of known calls, and turns the kernel's records of them into columns of calls."""
