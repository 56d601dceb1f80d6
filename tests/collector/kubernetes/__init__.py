"""Tests of collector/kubernetes."""
