"""Reads calls from capture files (pcap and pcapng)."""
