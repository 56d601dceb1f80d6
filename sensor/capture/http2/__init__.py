"""Makes calls of the kernel's HTTP/2 frame events, and installs header blocks that the kernel may match."""
