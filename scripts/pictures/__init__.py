"""Takes the pictures of README and docs from the running demo."""
