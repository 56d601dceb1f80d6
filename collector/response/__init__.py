"""Blocks: proposals, approvals, sensors and other systems."""
