"""The edge to the kernel: compiles and loads the programs, reads their ring and maps. Nothing else imports bcc or
calls bpf(2)."""
