"""The console in a real Chromium: every page of a collector with data, as people and their keyboards use it."""
