/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many calls may go up whole: a second by each process, and twice as many by the node. Two CPUs may take from one budget at once and then
 * pay once: a budget need not be exact.
 */
#ifndef APIDAE_SYSCALL_BUDGET_H
#define APIDAE_SYSCALL_BUDGET_H

#define SECOND_NS 1000000000ULL
#define NODE_FACTOR 2
/* When the node's budget is spent, a process still has this part of it, and this part of its own burst: who makes few calls is told whatever
 * others make. */
#define RESERVE_RATE_PART 16
#define RESERVE_BURST_PART 4
/* A process with a price of its own may make the calls of this part of a second at once. */
#define OWN_BURST_PART 2

/* What: accounts of processes (GCRA, a leaky bucket). Life: the least recent is evicted, and then begins with a full budget. Key: thread group. */
BPF_TABLE("lru_hash", u32, struct account, accounts, 4096);

/* What: the account of all of them. Life: the program's. */
BPF_ARRAY(node_account, struct account, 1);

/* What: nanoseconds in which a process earns a call; 0: as built in. Of the sensor's making. Life: the program's. */
BPF_ARRAY(call_prices, u64, 1);

/* What: the same by process, for calls of HTTP/1, where it is more; key 0: of processes without an element. Life: the sensor removes them. */
BPF_TABLE("hash", u32, u64, own_prices, 4096);

static __always_inline u64 find_price(void) {
  u32 only = 0;
  u64 *price_ns = call_prices.lookup(&only);
  return price_ns && *price_ns ? *price_ns : SECOND_NS / CALLS_PER_SECOND;
}

static __always_inline struct account *find_account(u32 key) {
  struct account *a = accounts.lookup(&key);
  if (a)
    return a;
  struct account fresh = {};
  accounts.insert(&key, &fresh);
  return accounts.lookup(&key);
}

static __always_inline int pay(u64 *paid_ns, u64 price_ns, u64 burst, u64 now) {
  u64 from = *paid_ns > now ? *paid_ns : now;
  if (from + price_ns > now + price_ns * burst)
    return 0;
  *paid_ns = from + price_ns;
  return 1;
}

/* 1: one more call of this process may go up. Calls of HTTP/2 have the price of all: a header that is not seen is missing in later calls. */
static __always_inline int take_call(int is_http2, u64 now) {
  u32 only = 0, process = bpf_get_current_pid_tgid() >> 32;
  struct account *own = find_account(process), *node = node_account.lookup(&only);
  if (!own || !node)
    return 1;
  __sync_fetch_and_add(&own->calls, 1);
  u64 price_ns = find_price(), node_price_ns = price_ns / NODE_FACTOR, burst = CALLS_BURST, *known = 0;
  if (!is_http2) {
    known = own_prices.lookup(&process);
    if (!known)
      known = own_prices.lookup(&only);
  }
  if (known && *known > price_ns) {
    price_ns = *known;
    if (burst > SECOND_NS / OWN_BURST_PART / price_ns)
      burst = SECOND_NS / OWN_BURST_PART / price_ns;
  }
  if (pay(&own->paid_ns, price_ns, burst, now) &&
      (pay(&node->paid_ns, node_price_ns, CALLS_BURST, now) ||
       pay(&own->reserve_ns, node_price_ns * RESERVE_RATE_PART, CALLS_BURST / RESERVE_BURST_PART, now)))
    return 1;
  __sync_fetch_and_add(&own->refused, 1);
  count(Z_REFUSED, 1);
  return 0;
}

#endif
