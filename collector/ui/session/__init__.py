"""Sign in, sign out, theme."""
