/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc writes the version it needs on the command line. */
#define LINUX_VERSION_CODE 0
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
