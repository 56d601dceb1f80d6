"""One module for each revision of the schema, `v0001_alerts` for the first. A step that was released never changes."""
