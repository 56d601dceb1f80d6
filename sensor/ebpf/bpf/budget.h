/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Leaky buckets: how much of something (heads, bytes, header blocks) a cgroup or the node may send up.
 *
 * A bucket is one word, changed by compare-and-swap: milliseconds of the clock (upper half, wraps after 49 days) and what is owed (lower
 * half). What is owed leaks at a rate that user space may change at any time: it is kept in units, not as a time to come, so that a
 * governor who lowers a rate and lifts it again leaves no debt of the slow time to be paid at length.
 */
#ifndef APIDAE_BUDGET_H
#define APIDAE_BUDGET_H

#include "conn.h"
#include "cache_maps.h"

#define BUDGET_TRIES 4 /* Other CPUs may take from the same budget; past so many the head stays down. */
#define SECOND_NS 1000000000ULL
#define MILLISECOND_NS 1000000ULL
#define OWED_MAX 0x7fffffffULL
/* When the node's budget is spent, a cgroup still has this part of the node's rate, and this part of its own burst at first. */
#define RESERVE_RATE_PART 16
#define RESERVE_BURST_PART 4
#define HEAD_UNITS 1000 /* Heads are counted in thousandths. */
#define BUDGET_PARTS 8  /* Of a cgroup's burst and reserve: all that a consumer may fill that has not had its share (consumer.h). */
#define SAMPLES_BURST_SECONDS 30 /* So that what is new is known soon. */
/* Keys of budgets: cgroups are numbered from 1. */
#define NODE_KEY 0
#define SAMPLES_KEY (1ULL << 62)
#define BLOCKS_KEY (1ULL << 63)

#define RING_USED 0      /* BPF_RB_AVAIL_DATA */
#define RING_READ 2      /* BPF_RB_CONS_POS */

static __always_inline u64 ring_used(void) { return events.ringbuf_query(RING_USED); }

static __always_inline u64 owe(u64 bucket, u64 rate, u32 now_ms) {
  u64 owed = (u32)bucket, leaked = (u64)(u32)(now_ms - (u32)(bucket >> 32)) * rate / 1000;
  return (owed - leaked) & -is_below(leaked, owed); /* No branch: it is asked for many times in a program. */
}

/* 1: `amount` was taken. `rate`: units a second that leak; `most`: units that may be owed afterwards. */
static __always_inline int take_from(u64 *bucket, u64 amount, u64 rate, u64 most, u64 now) {
  u32 now_ms = now / MILLISECOND_NS;
  most = choose(is_below(OWED_MAX, most), OWED_MAX, most);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < BUDGET_TRIES; i++) {
    u64 seen = V(*bucket), owed = owe(seen, rate, now_ms) + amount;
    if (owed > most)
      return 0;
    if (__sync_val_compare_and_swap(bucket, seen, (u64)now_ms << 32 | owed) == seen)
      return 1;
  }
  return 0;
}

/* What was taken is given back; where other CPUs are faster, it is not. */
static __always_inline void give_back(u64 *bucket, u64 amount) {
  u64 seen = V(*bucket);
  if ((u32)seen >= amount)
    __sync_val_compare_and_swap(bucket, seen, seen - amount);
}

static __always_inline struct budget *find_budget(u64 key) {
  struct budget *b = budgets.lookup(&key);
  if (b)
    return b;
  struct budget fresh = {};
  budgets.insert(&key, &fresh);
  return budgets.lookup(&key);
}

/* What a cgroup may send up of one thing, and all together: units a second, and most that may be owed. */
struct allowance {
  u64 rate, most;
  u64 node_rate, node_most;
  u64 reserve_most; /* Before it is multiplied by RESERVE_RATE_PART. */
};

/* 1: `amount` was taken. The cgroup is asked first: what it has not got, it does not take from the node. When the node's is spent, a cgroup
 * still has its reserve. */
static __always_inline int take_shared(struct budget *own, struct budget *node, const struct allowance *a, u64 amount, u64 now) {
  if (!own || !node || !take_from(&own->bucket, amount, a->rate, a->most, now))
    return 0;
  if (take_from(&node->bucket, amount, a->node_rate, a->node_most, now) ||
      take_from(&own->reserve, amount * RESERVE_RATE_PART, a->node_rate, a->reserve_most * RESERVE_RATE_PART, now))
    return 1;
  give_back(&own->bucket, amount);
  return 0;
}

/* What a head costs: each 1,024 bytes as much as a head, so that a burst of large ones does not fill the ring for all. */
static __always_inline u64 head_amount(u32 bytes) { return (1 + (bytes >> 10)) * HEAD_UNITS; }

/* 1: one more head of this cgroup, of so many bytes, may go up, and owe at most `parts` of the burst. Once the reader is so far behind that
 * half of the ring is full, each cgroup has its reserve only: who fills the ring shall not make the heads of others wait in it. */
static __always_inline int take_head(const struct settings *set, u64 cgroup_id, u32 bytes, u32 parts, u64 now) {
  u64 burst = set->heads_burst * HEAD_UNITS * parts / BUDGET_PARTS;
  struct allowance a = {
      .rate = set->heads_per_second * HEAD_UNITS,
      .most = burst,
      .node_rate = set->node_heads_per_second * HEAD_UNITS,
      .node_most = ring_used() > RING_BYTES / 2 ? 0 : set->node_heads_burst * HEAD_UNITS,
      .reserve_most = burst / RESERVE_BURST_PART,
  };
  return a.rate && take_shared(find_budget(cgroup_id), find_budget(NODE_KEY), &a, head_amount(bytes), now);
}

/* 1: a call of a route that is due may be a sample of it: with many routes not each of them is, every second. A cgroup may have all. */
static __always_inline int take_sample(const struct settings *set, u64 cgroup_id, u64 now) {
  u64 rate = set->samples_per_second * HEAD_UNITS, most = rate * SAMPLES_BURST_SECONDS;
  struct allowance a = {.rate = rate, .most = most, .node_rate = rate, .node_most = most, .reserve_most = most / RESERVE_RATE_PART};
  return take_shared(find_budget(cgroup_id | SAMPLES_KEY), find_budget(SAMPLES_KEY), &a, HEAD_UNITS, now);
}

#endif
