"""Alerts: the list, one alert, and silencing."""
