"""The tables of the store and their views."""
