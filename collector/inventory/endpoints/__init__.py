"""Lists endpoints with their filters, figures, operations and exposure."""
