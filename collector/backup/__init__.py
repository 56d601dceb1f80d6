"""Backups: everything that a running collector keeps, in one archive, and back again."""
