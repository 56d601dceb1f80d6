"""`scripts/run`: a collector and a sensor on this host, and the inventory as a table that fills while one looks at
it.
"""
