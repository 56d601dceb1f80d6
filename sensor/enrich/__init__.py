"""Names both ends of a call by processes, cgroups, containers and Pods, and recognises Apidae's own traffic."""
