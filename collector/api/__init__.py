"""The REST API: one file a feature, with its models and routes."""
