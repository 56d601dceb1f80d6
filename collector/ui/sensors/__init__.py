"""The sensors of the installation."""
