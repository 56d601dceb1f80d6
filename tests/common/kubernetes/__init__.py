"""Tests of common.kubernetes."""
