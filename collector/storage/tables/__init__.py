"""Tables of the store and their changes."""
