"""Runs the tests of what several collectors share on real servers."""
