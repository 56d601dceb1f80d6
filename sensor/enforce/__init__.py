"""Keeps the kernel's tables of blocked clients, resets their connections, and reports what was stopped."""
