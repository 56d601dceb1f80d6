/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What user space has taught: the maps that `recognise` reads. sensor/offload fills them; nothing here is ever evicted by the kernel.
 */
#ifndef APIDAE_CACHE_MAPS_H
#define APIDAE_CACHE_MAPS_H

#include "events.h"

/* What: how to recognise, and whether. Life: the program's. Key: 0. */
BPF_ARRAY(settings, struct settings, 1);
/* What: names of header fields and query parameters. Life: until user space puts another in its place. Key: find_bucket(). */
BPF_ARRAY(names, struct name_bucket, NAME_BUCKETS);
/* What: node at which the trie of a service, host and method begins. Life: until user space deletes it. */
BPF_F_TABLE("hash", struct root_key, u32, roots, 16384, NO_PREALLOC);
/* What: from a node by a segment to the next. Life: its root's. */
BPF_F_TABLE("hash", struct edge_key, struct edge, edges, 131072, NO_PREALLOC);
/* What: a bit for each edge by a segment's hash, so that of a segment that is a value, which is another in each call, no bucket of `edges`
 * is looked at: no cache holds them. Bits that stand for nothing cost that look. Life: until user space sets them anew. */
BPF_ARRAY(edge_signs, u64, EDGE_SIGNS);
/* What: the route whose path ends at a node. Life: its root's. */
BPF_F_TABLE("hash", struct leaf_key, struct leaf, leaves, 65536, NO_PREALLOC);
/* What: number of a profile. Life: until user space deletes it. Key: its hash. */
BPF_F_TABLE("hash", u64, u32, profiles, 131072, NO_PREALLOC);
/* What: heads sent up so far. Life: the least recent is evicted, and then begins with a full budget. Key: cgroup; 0: the node. */
BPF_TABLE("lru_hash", u64, struct budget, budgets, 4096);
/* What: body bytes copied so far. Life and key: as `budgets`. */
BPF_TABLE("lru_hash", u64, struct budget, body_budgets, 4096);
/* What: records since the reader came, while half of their ring was full. Life: the least recent is evicted. Key: cgroup. */
BPF_TABLE("lru_hash", u64, struct record_share, record_shares, 1024);
/* What: sums of calls that found a ring full. Life: the program's; past its size counted in C_DROPPED_RING. */
BPF_TABLE("hash", struct overflow_key, struct overflow_count, overflow, 8192);

static __always_inline const struct settings *find_settings(void) {
  u32 zero = 0;
  return settings.lookup(&zero);
}

#endif
