"""Sends rows and reports to the collector: wire batches, spool on disk, gRPC stream, certificates."""
