/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc multiplies a ring's pages by this; the loader passes the machine's own. */
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif
