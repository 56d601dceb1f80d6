"""Capture by cgroup programs: joins the kernel's events of a call to an exchange."""
