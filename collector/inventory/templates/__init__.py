"""Groups routes to endpoints with path templates, and applies people's edits of templates."""
