/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many calls may go up whole: a second by each process, and twice as many by the node. Two CPUs may take from one budget at once and then
 * pay once: a budget need not be exact.
 */
#ifndef APIDAE_SYSCALL_BUDGET_H
#define APIDAE_SYSCALL_BUDGET_H

#define SECOND_NS 1000000000ULL
#define NODE_FACTOR 2

/* What: when a process's calls so far would be paid for (GCRA, a leaky bucket). Life: the least recent is evicted, and then begins with a full
 * budget. Key: thread group; 0: the node. */
BPF_TABLE("lru_hash", u32, u64, paid, 4096);

static __always_inline int take_from(u32 key, u64 price_ns, u64 now) {
  u64 *next = paid.lookup(&key);
  if (!next) {
    u64 first = now + price_ns;
    paid.insert(&key, &first);
    return 1;
  }
  u64 from = *next > now ? *next : now;
  if (from + price_ns > now + price_ns * CALLS_BURST)
    return 0;
  *next = from + price_ns;
  return 1;
}

/* 1: one more call of this process may go up. */
static __always_inline int take_call(void) {
  u64 now = bpf_ktime_get_ns(), price_ns = SECOND_NS / CALLS_PER_SECOND;
  return take_from(bpf_get_current_pid_tgid() >> 32, price_ns, now) && take_from(0, price_ns / NODE_FACTOR, now);
}

#endif
