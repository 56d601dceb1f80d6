"""Real applications beside Apidae: each is installed, started, called by its own client, and compared."""
