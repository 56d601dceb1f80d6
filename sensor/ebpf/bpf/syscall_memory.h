/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The memory that a call moved bytes from or to, its first bytes, and the head of the event that tells of it.
 */
#ifndef APIDAE_SYSCALL_MEMORY_H
#define APIDAE_SYSCALL_MEMORY_H

#include "reads.h"

#define PEEKS_MAX 4 /* Pieces of a call's memory that are looked at for the first byte. */
#define WAKE_WAITING 0 /* As in emit.h. */

/* How a system call names its memory. */
enum way {
  WAY_BUFFER,
  WAY_VECTOR,
  WAY_MESSAGE,
  WAY_UNSEEN, /* sendfile, splice: not at all. */
};

/* The bytes of one call. */
struct message {
  u64 memory;
  u64 count; /* Of vectors. */
  u32 size;
  u8 way;
};

struct vector {
  u64 base, size;
};

/* What: events to the sensor. It gets its size when it is made: `Build.rings` in sensor/ebpf/compile.py. */
BPF_RINGBUF_OUTPUT(events, 1);
#define COUNTERS 16
#define COUNTER_PARTS 16 /* A power of two. */

/* What: enum syscall_counter, each in parts whose sum is meant: processors that count at once have each their own, for a word that two of them
 * write costs each as much as all else that counts. Life: the program's. Key: the counter, and 16 times the last bits of the processor. */
BPF_ARRAY(counters, u64, COUNTERS *COUNTER_PARTS);

static __always_inline void count(u32 counter, u64 amount) {
  u32 place = counter + (bpf_get_smp_processor_id() & (COUNTER_PARTS - 1)) * COUNTERS;
  u64 *value = counters.lookup(&place);
  if (value)
    __sync_fetch_and_add(value, amount);
}

/* Where the message's vectors are, and how many. */
static __always_inline void find_vectors(struct message *m) {
  if (m->way != WAY_MESSAGE)
    return;
  u64 header[4] = {}; /* struct user_msghdr: name, its length, iov, their count. */
  read_user(header, sizeof(header), (void *)m->memory);
  m->memory = header[2];
  m->count = header[3];
  m->way = WAY_VECTOR;
}

/* The first bytes of a message, 8 at most; gives how many. */
static __always_inline u32 peek(struct message *m, u64 *word) {
  struct vector v = {.base = m->memory, .size = m->size};
  find_vectors(m);
  if (m->way == WAY_UNSEEN)
    return 0;
  for (u32 i = 0; i < PEEKS_MAX; i++) {
    if (m->way == WAY_VECTOR) {
      if (i >= m->count || read_user(&v, sizeof(v), (void *)(m->memory + i * sizeof(v))))
        return 0;
    }
    if (v.size)
      break;
  }
  u32 size = v.size > 8 ? 8 : v.size;
  if (size > m->size)
    size = m->size;
  *word = 0;
  if (!size || read_user(word, 8, (void *)v.base)) {
    size &= 7;
    read_user(word, size, (void *)v.base);
  }
  if (size < 8)
    *word &= (1ULL << 8 * size) - 1;
  return size;
}

static __always_inline void fill(struct syscall_event *e, struct tcp_end *end, u64 cgroup_id, u8 kind, u64 now) {
  e->time_ns = now;
  e->socket = end->socket;
  e->cgroup_id = cgroup_id;
  e->hash = end->hash;
  e->local_port = end->local_port;
  e->remote_port = end->remote_port;
  e->kind = kind;
  e->family = end->family;
  __builtin_memcpy(e->local_address, end->local_address, 16);
  __builtin_memcpy(e->remote_address, end->remote_address, 16);
}

#endif
