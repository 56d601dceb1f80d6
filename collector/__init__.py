"""The collector: stores rows of calls, keeps the API inventory, detects anomalies and abuse, alerts, can block."""
