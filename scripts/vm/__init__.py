"""Tests on another kernel than the running one: an emulated machine that boots it over this host's files."""
