/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Fills events and puts them into the ring, in the smallest of eight sizes that holds them: a reservation's size must be a constant. */
#ifndef APIDAE_EMIT_H
#define APIDAE_EMIT_H

/* Of bpf_ringbuf_submit: who waits is woken, where the ring was read to its end (sensor/ebpf/ring.py); a reader who is behind costs nothing. */
#define WAKE_WAITING 0

#define RESERVATION(SIZE) \
  struct event_##SIZE { \
    struct http_event head; \
    u8 data[SIZE]; \
  };
RESERVATION(256)
RESERVATION(512)
RESERVATION(1024)
RESERVATION(2048)
RESERVATION(8192)
RESERVATION(16384)
RESERVATION(65536)

/* bcc rewrites ring calls in functions, not in macros. */
static __always_inline void *reserve_0(void) { return events.ringbuf_reserve(sizeof(struct http_event)); }
static __always_inline void *reserve_256(void) { return events.ringbuf_reserve(sizeof(struct event_256)); }
static __always_inline void *reserve_512(void) { return events.ringbuf_reserve(sizeof(struct event_512)); }
static __always_inline void *reserve_1024(void) { return events.ringbuf_reserve(sizeof(struct event_1024)); }
static __always_inline void *reserve_2048(void) { return events.ringbuf_reserve(sizeof(struct event_2048)); }
static __always_inline void *reserve_8192(void) { return events.ringbuf_reserve(sizeof(struct event_8192)); }
static __always_inline void *reserve_16384(void) { return events.ringbuf_reserve(sizeof(struct event_16384)); }
static __always_inline void *reserve_65536(void) { return events.ringbuf_reserve(sizeof(struct event_65536)); }
static __always_inline struct call_record *reserve_record(void) { return records.ringbuf_reserve(sizeof(struct call_record)); }
static __always_inline void submit_record(struct call_record *record) { records.ringbuf_submit(record, WAKE_WAITING); }
static __always_inline void submit(void *event) { events.ringbuf_submit(event, WAKE_WAITING); }

/* Copies 1 <= n <= SIZE bytes of the packet behind the event's head. */
#define FILL(SIZE) \
  do { \
    struct event_##SIZE *e = reserve_##SIZE(); \
    if (!e) \
      return 0; \
    u32 size = n; \
    asm volatile("" : "+r"(size)); \
    size = ((size - 1) & (SIZE - 1)) + 1; \
    asm volatile("" : "+r"(size)); \
    e->head = *event; \
    e->head.length = size; \
    if (bpf_skb_load_bytes(skb, from, e->data, size) < 0) \
      e->head.length = 0; \
    submit(e); \
    return 1; \
  } while (0)

/* 1: the event is in the ring. `n` bytes of the packet from `from` on go with it; there are never more than `most`, a constant. */
static __always_inline int put(struct __sk_buff *skb, const struct http_event *event, u32 from, u32 n, const u32 most) {
  if (!most || !n) {
    struct http_event *e = reserve_0();
    if (!e)
      return 0;
    *e = *event;
    submit(e);
    return 1;
  }
  if (n <= 256)
    FILL(256);
  if (n <= 512)
    FILL(512);
  if (most <= 1024 || n <= 1024)
    FILL(1024);
  if (most <= 2048 || n <= 2048)
    FILL(2048);
  if (n <= 8192)
    FILL(8192);
  if (n <= 16384)
    FILL(16384);
  FILL(65536);
}

#endif
