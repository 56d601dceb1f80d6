/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef APIDAE_COMPILER_H
#define APIDAE_COMPILER_H
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __user
#define __force
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif
