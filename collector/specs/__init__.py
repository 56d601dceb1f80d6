"""Compares API descriptions (OpenAPI 2 and 3) with the endpoints that were seen."""
