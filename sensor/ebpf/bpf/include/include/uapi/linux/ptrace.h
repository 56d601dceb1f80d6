/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#include <linux/types.h>
struct pt_regs {
  unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
