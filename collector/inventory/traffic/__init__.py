"""Calls over time, and who calls whom: of everything or of a part of the inventory."""
