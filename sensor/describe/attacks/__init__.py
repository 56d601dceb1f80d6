"""Finds payloads of attacks in requests, and signs in the responses that they worked."""
