"""HTTP/2 connections of the kernel's events."""
