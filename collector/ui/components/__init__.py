"""What pages are made of: templates and words, tables with filters, charts."""
