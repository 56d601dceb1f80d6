/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How long servers take to answer on encrypted connections: from the last bytes of the client to the first bytes of the server. No probe is
 * needed for it, so the sensor can compare a server's answers while it is read with those while it is not.
 *
 * Only of ports that the sensor asks for: it makes the elements of `waits`, so nobody else can fill the map or have one evicted. What is
 * of another port costs a look at a bit.
 */
#ifndef APIDAE_WAITS_H
#define APIDAE_WAITS_H

#define WAIT_UNIT_BITS 10   /* Waits are in units of 1,024 ns. */
#define WAIT_STEP_BITS 5    /* A doubling has 32 buckets, so each is at most 3.2 % wide. Twins: sensor/capture/tls/waits.py. */
#define WAIT_LEVELS 24
#define WAIT_BUCKETS 640    /* (24 - 4) * 32. The last one begins at 16.9 s and has all that is longer. */
#define TIMED_WORDS 1024

struct wait_counts {
  u32 counts[WAIT_BUCKETS];
};

/* What: answers so far by their wait. Life: the sensor makes and deletes elements. Key: as of `ports`; its kind is K_ENCRYPTED. */
BPF_F_TABLE("hash", struct port_key, struct wait_counts, waits, 512, 1 /* BPF_F_NO_PREALLOC: memory only for what is there. */);
/* What: a bit for each port of which `waits` may have an element, so that others cost no look into it. Of the sensor's making. Life: the
 * program's. Key: the port / 64. */
BPF_ARRAY(timed, u64, TIMED_WORDS);

static __always_inline int is_timed(u16 port) {
  u32 index = port >> 6;
  u64 *word = timed.lookup(&index);
  return word && *word >> (port & 63) & 1;
}

static __always_inline u32 find_wait_bucket(u64 wait_ns) {
  u64 units = wait_ns >> WAIT_UNIT_BITS;
  if (units >> WAIT_LEVELS)
    return WAIT_BUCKETS - 1;
  if (!(units >> WAIT_STEP_BITS))
    return units; /* Below 32 units a bucket is a unit. */
  u64 rest = units, level = 0;
#pragma unroll
  for (u32 bits = 16; bits; bits >>= 1) {
    u64 shift = rest >> bits ? bits : 0;
    rest >>= shift;
    level += shift;
  }
  u64 above = level - WAIT_STEP_BITS;
  return (above + 1) << WAIT_STEP_BITS | (units >> above & ((1 << WAIT_STEP_BITS) - 1));
}

static __always_inline void count_wait(u64 cgroup_id, u16 port, u64 asked_ns, u64 now) {
  struct port_key key = {.cgroup_id = cgroup_id, .port = port, .kind = K_ENCRYPTED};
  struct wait_counts *found = waits.lookup(&key);
  u32 bucket = find_wait_bucket(now > asked_ns ? now - asked_ns : 0); /* Another CPU may have heard more of the client meanwhile. */
  if (found && bucket < WAIT_BUCKETS)
    __sync_fetch_and_add(&found->counts[bucket], 1);
}

#endif
