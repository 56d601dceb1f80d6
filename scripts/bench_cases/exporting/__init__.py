"""Five small applications with different frameworks and credentials, and the calls that a generated client makes."""
