/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Copies the first bytes that a system call moved out of the process's memory into an event, and sends it.
 */
#ifndef APIDAE_SYSCALL_COPY_H
#define APIDAE_SYSCALL_COPY_H

#include "syscall_memory.h"

#define COPY_MAX 15360 /* Bytes of one call that go up. With PART_MAX and the event's head they must fit the 32 KiB of a per-CPU value. */
#define PART_MAX 16384 /* What the verifier is told of a part's size; a power of two. */
#define VECTORS_MAX 32 /* Pieces of one call's memory that are looked at. */

struct scratch {
  u32 done, left; /* Of the copy in hand. Here, for in registers each outcome would be another state to the verifier. */
  struct vector vector;
  struct syscall_event event;
  u8 data[COPY_MAX + PART_MAX];
};

/* What: an event in the making. Life: one call of a program, which nothing interrupts. */
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);

/* Copies up to COPY_MAX bytes behind the event; gives how many. */
static __always_inline u32 copy(struct message *m, struct scratch *s) {
  s->done = 0;
  s->left = m->size > COPY_MAX ? COPY_MAX : m->size;
  s->vector.base = m->memory;
  s->vector.size = m->size;
  find_vectors(m);
  u64 parts = m->way == WAY_UNSEEN ? 0 : m->way == WAY_VECTOR ? m->count : 1;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < VECTORS_MAX; i++) {
    if (i >= V(parts))
      break;
    if (m->way == WAY_VECTOR && read_user(&s->vector, sizeof(s->vector), (void *)(m->memory + i * sizeof(s->vector))))
      break;
    u64 size = V(s->vector.size);
    u32 left = V(s->left), at = V(s->done);
    u32 part = size > left ? left : size, bound = part - 1;
    if (!part)
      continue;
    asm volatile("" : "+r"(at), "+r"(bound)); /* Else clang leaves out what the verifier has to be told. */
    if (at >= COPY_MAX)
      break;
    bound &= PART_MAX - 1;
    asm volatile("" : "+r"(bound));
    if (read_user(s->data + at, bound + 1, (void *)V(s->vector.base))) {
      count(Z_UNREADABLE, 1);
      break;
    }
    V(s->done) = at + part;
    V(s->left) = left - part;
    if (left == part)
      break;
  }
  return V(s->done);
}

static __always_inline void submit(void *event, u32 length) {
  asm volatile("" : "+r"(length));
  length &= PART_MAX - 1;
  asm volatile("" : "+r"(length));
  if (events.ringbuf_output(event, sizeof(struct syscall_event) + length, WAKE_WAITING)) {
    count(Z_EVENTS_LOST, 1);
  } else {
    count(Z_EVENTS, 1);
  }
}

/* Tells that an end has nothing more to say. May come in the middle of `send`, so not by its scratch. */
static __always_inline void send_state(struct tcp_end *end, u64 cgroup_id, u8 kind) {
  struct syscall_event e = {.sequence = end->write_next, .other = end->read_next};
  fill(&e, end, cgroup_id, kind, bpf_ktime_get_ns());
  submit(&e, 0);
}

/* Tells of bytes that moved. */
static __always_inline void send(struct message *m, struct tcp_end *end, u64 cgroup_id, u8 kind) {
  u32 zero = 0, is_write = kind == S_WRITE;
  struct scratch *s = scratches.lookup(&zero);
  if (!s)
    return;
  struct syscall_event *e = &s->event;
  fill(e, end, cgroup_id, kind, bpf_ktime_get_ns());
  e->process = bpf_get_current_pid_tgid() >> 32;
  e->sequence = (is_write ? end->write_next : end->read_next) - m->size;
  e->other = is_write ? end->read_next : end->write_next;
  e->size = m->size;
  u32 length = copy(m, s);
  e->length = length;
  if (length < m->size)
    count(Z_UNCOPIED, m->size - length);
  submit(e, length);
}

#endif
