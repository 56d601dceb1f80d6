"""The log between ingest and everything behind it: batches, durable in their order, until all have read them."""
