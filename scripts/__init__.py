"""Programs of this checkout that are no part of the product: set-up, a first run, demo traffic, benchmarks."""
