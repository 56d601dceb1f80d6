"""HTTP/2 as the sensor lives it: the kernel's frame events in, calls of streams out."""
