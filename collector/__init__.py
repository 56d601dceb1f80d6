"""The central side: takes windows of calls, keeps the inventory, finds anomalies, alerts, and answers queries."""
