"""`apidae top`: the inventory and the open alerts in a terminal, as they change."""
