"""Endpoints: lists, predicates, figures."""
