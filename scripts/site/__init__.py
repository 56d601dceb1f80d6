"""Builds the documentation as a site of plain files (mkdocs.yml)."""
