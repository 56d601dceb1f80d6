"""The life cycle of alerts: wording, filters, silences, incidents, storage."""
