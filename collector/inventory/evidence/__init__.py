"""Calls and comparisons that an alert rests on."""
