"""Series of request rates, and changes put into them."""
