"""Erases one consumer from all that a stopped collector keeps: log, tables, detectors' state."""
