"""Decides whom the sensors stop: blocks and their life, previews of whom they would hit, the ladder of each detection,
the audit log (docs/response.md)."""
