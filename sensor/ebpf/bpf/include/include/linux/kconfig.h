/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Stands in for the kernel's kconfig.h: bcc's own headers ask only for the BPF system call. */
#ifndef APIDAE_KCONFIG_H
#define APIDAE_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_CGROUP_BPF 1
#endif
