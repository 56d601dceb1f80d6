"""Demo traffic: a few real services on loopback, honest clients, and one client that takes every object by number."""
