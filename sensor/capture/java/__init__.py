"""Reads the plain text of Java, which an agent inside the process gives to the sensor."""
