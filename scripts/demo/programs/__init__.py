"""Programs of the demo. Each runs as a module of its own, such as `python -m orders`, and so the inventory names it."""
