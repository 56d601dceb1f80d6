"""The commands that ask a running collector, or work on its directory: `apidae endpoints`, `apidae block`, .."""
