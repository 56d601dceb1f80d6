"""What the collector runs with, where alerts are sent, and who may enter."""
