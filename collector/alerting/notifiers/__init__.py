"""Sends alerts to webhooks, chat, e-mail, syslog, OpenTelemetry and other services."""
