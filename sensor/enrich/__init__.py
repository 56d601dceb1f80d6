"""Who serves and who calls: processes, containers, Kubernetes."""
