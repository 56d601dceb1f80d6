"""API descriptions (OpenAPI 2 and 3) and how what is seen differs from them."""
