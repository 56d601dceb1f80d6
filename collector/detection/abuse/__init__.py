"""Detectors of abuse: one kind of evidence each, most of them by consumer."""
