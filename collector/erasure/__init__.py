"""Erases one consumer from all that a running collector keeps: log, tables, alerts, detectors' state, blocks, audit."""
