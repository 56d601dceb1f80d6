"""Merges what sensors reported of parameters and fields, and writes OpenAPI and Postman documents."""
