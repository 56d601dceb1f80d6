/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Numbers of a node and of its settings: known when the programs are loaded, not when they are compiled, so one image serves every node. Each is
 * the operand of an instruction that loads 64 bits, which `fill_image` in sensor/ebpf/compile.py replaces. The verifier sees a constant, and leaves
 * out the code behind a condition that is false. The compiler's flags name them: -DRING_BYTES=CONSTANT(3).
 */
#ifndef APIDAE_CONSTANTS_H
#define APIDAE_CONSTANTS_H

#define CONSTANT_MARK 0x4170696400000000ULL /* Twin: sensor/ebpf/compile.py. */
#define CONSTANT(number) ({ u64 constant; asm("%0 = %1 ll" : "=r"(constant) : "i"(CONSTANT_MARK + number)); constant; })

#endif
