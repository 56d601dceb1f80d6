"""What sensor and collector mean alike. It imports neither of them."""
