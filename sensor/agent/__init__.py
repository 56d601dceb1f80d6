"""The life of the sensor's process: composition, loop, control and exporters."""
