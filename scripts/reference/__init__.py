"""The generated pages of docs/reference: settings and commands."""
