/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A consumer's share of its cgroup's budget of heads, so that who floods a service with what has to be looked at (signs of attacks, names and
 * callers never seen) does not keep down the heads of others there. Asked only where a head asks for the budget.
 *
 * A share limits nobody while there is room: what it decides is how much of the cgroup's bucket a head may fill. Who is within it may fill all
 * of it; who is beyond leaves the last part, and so is the one to wait once heads come faster than they may go up. The cgroup sends up no more
 * heads than without shares, and one consumer alone as many a second.
 *
 * A consumer is what the kernel knows of it: address of the other end, and credential or profile. Both can be changed with each request, so an
 * address (of IPv6 its network of 64 bits, which is what one subscriber has) has a share too, that of several consumers.
 */
#ifndef APIDAE_CONSUMER_H
#define APIDAE_CONSUMER_H

#include "budget.h"
#include "packet.h"

#define CONSUMER_PART 16 /* Of the cgroup's rate and burst, a consumer has this part for its own, */
#define ADDRESS_PART 4   /* an address this one. */
/* How much of the cgroup's bucket a head may fill, in eighths (BUDGET_PARTS): of a consumer that has had its share, of an address that has. */
#define CONSUMER_SPENT_PARTS 6
#define ADDRESS_SPENT_PARTS 7

/* What: heads asked for within a share, as the bucket of `budgets`. Life: the least recent is evicted, and then begins with a full share:
 * an eviction is in favour of who asks seldom. Key: consumer or address, in its cgroup. */
BPF_TABLE("lru_hash", u64, u64, shares, 2048);

/* 1: `amount` was within the share of `key`: a `part`th of the cgroup's budget. */
static __always_inline int take_share(u64 key, const struct settings *set, u64 part, u64 amount, u64 now) {
  u64 *bucket = shares.lookup(&key);
  if (bucket)
    return take_from(bucket, amount, set->heads_per_second * HEAD_UNITS / part, set->heads_burst * HEAD_UNITS / part, now);
  u64 fresh = (now / MILLISECOND_NS) << 32 | amount;
  shares.insert(&key, &fresh);
  return 1;
}

/* How much of the budget of its cgroup the request head in hand may fill: `parts` of the flow. Of IPv4 the words of IPv6 say nothing else. */
static __always_inline void find_parts(const struct bpf_sock *sk, const struct conn *c, struct flow *f, const struct settings *set, u32 bytes,
                                       u64 now) {
  u64 network = mix(mix(c->cgroup_id, sk->dst_ip4), (u64)sk->dst_ip6[0] << 32 | sk->dst_ip6[1]);
  u64 host = (u64)sk->dst_ip6[2] << 32 | sk->dst_ip6[3], amount = head_amount(bytes);
  f->parts = CONSUMER_SPENT_PARTS;
  if (!take_share(mix(mix(network, host), V(f->consumer) | 1), set, CONSUMER_PART, amount, now))
    return;
  f->parts = BUDGET_PARTS;
  if (!take_share(network, set, ADDRESS_PART, amount, now))
    f->parts = ADDRESS_SPENT_PARTS;
}

/* 1: the request head in hand, of so many bytes, may go up. */
static __always_inline int take_consumer_head(const struct bpf_sock *sk, const struct conn *c, struct flow *f, const struct settings *set,
                                              u32 bytes, u64 now) {
  find_parts(sk, c, f, set, bytes, now);
  if (take_head(set, c->cgroup_id, bytes, V(f->parts), now))
    return 1;
  count_many(C_SHARES_SPENT, V(f->parts) < BUDGET_PARTS);
  return 0;
}

#endif
