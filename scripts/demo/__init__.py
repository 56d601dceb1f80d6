"""Demo traffic: a small shop of real services on loopback that call each other, honest clients, and three attacks."""
