"""Types and services of the sensor that every room may import."""
