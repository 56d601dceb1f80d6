"""Lists consumers and what each of them called."""
