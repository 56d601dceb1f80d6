"""Commands of the sensor."""
