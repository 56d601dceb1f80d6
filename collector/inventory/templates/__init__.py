"""Templates of paths, and how people edit them."""
