/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads memory of the kernel and of processes, for programs on system calls, tracepoints and libraries; programs on packets read neither.
 *
 * Under names of our own: where /proc/kallsyms shows no addresses (a process without CAP_SYSLOG), libbcc replaces bcc's names for these
 * helpers by the older bpf_probe_read, so the same source would compile to another program there.
 */
#ifndef APIDAE_READS_H
#define APIDAE_READS_H

/* Reads a variable from memory each time. A loop with a constant and a variable bound needs it for the variable one: else clang merges both into
 * one value. The verifier of 6.1 forgets the limit of that value and follows the loop without end. */
#define V(x) (*(volatile typeof(x) *)&(x))

/* Both give 0, or an error and zeroes where that memory cannot be read (Linux 5.5). */
static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;
static long (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;

#endif
