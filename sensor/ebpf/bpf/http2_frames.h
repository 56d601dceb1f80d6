/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs behind a packet of HTTP/2: one follows its frames, one copies what cannot be followed. `skb->cb`: 0: direction + 1, 1: enum
 * closing, 2: sequence number of the payload, 3: its offset, 4: runs of this packet, or COPY_UNHELD. Of a deferred connection 1 and 4 are
 * its key.
 */
#ifndef APIDAE_HTTP2_FRAMES_H
#define APIDAE_HTTP2_FRAMES_H

#include "http2_follow.h"
#include "upgraded.h"

#define COPY_UNHELD 0xffffffff /* Another CPU is in this direction and follows it. */
#define COPY_STEPS 6           /* Of 16 KiB: a segment of offload's largest size. */

static __always_inline void take_frame(struct __sk_buff *skb, struct conn *c, struct streams *s, struct frame_flow *f, u64 now) {
  if (!V(f->left))
    take_frame_header(skb, c, s, f, now);
  if (V(f->left) && V(f->offset) < skb->len)
    take_frame_payload(skb, f);
}

/* Of the packet in hand, as read_direction(). */
static __always_inline u32 read_closing(struct __sk_buff *skb) { return *(volatile u32 *)&skb->cb[1]; }

/* The packet is read to its end. 1: there is more to be told. */
static __always_inline int end_packet(struct __sk_buff *skb, struct frame_flow *f) {
  u32 closing = read_closing(skb), end_at = skb->cb[2] + (skb->len - skb->cb[3]);
  if (V(f->is_due)) {
    f->sending = E_FRAMES;
    return 1;
  }
  if (closing <= V(f->ended))
    return 0;
  if (V(f->state) == FOLLOW_SYNC && V(f->at) == end_at && !V(f->is_broken)) { /* What came of the last frame is told too. */
    f->is_broken = 1;
    cut_frame(f);
    f->have = 0;
    f->sending = E_FRAMES;
    return 1;
  }
  f->ended = closing;
  f->end_at = end_at;
  f->sending = E_END;
  return 1;
}

static __always_inline int follow_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1;
  u64 now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  struct streams *s = streams.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!c || !s) {
    count(C_STORAGE_FAILED);
    return PASS;
  }
  struct frame_flow *f = &s->flow[direction];
  struct flow *base = &c->flow[direction];
  if (skb->cb[4] == AFTER_UPGRADE) {
    find_upgrade(skb, c, skb->cb[3], direction);
    if (c->kind != K_HTTP2) {
      call_upgraded(skb, skb->cb[2], skb->cb[3], direction, skb->cb[1], AFTER_UPGRADE);
      return PASS;
    }
    skb->cb[4] = 0;
  }
  if (!skb->cb[4] || skb->cb[4] == AFTER_MATCH) {
    int is_held = skb->cb[4] == AFTER_MATCH || hold(base);
    skb->cb[4] = 0;
    if (!is_held) {
      skb->cb[4] = COPY_UNHELD;
      programs.call(skb, PROGRAM_COPY_FRAMES);
      return PASS;
    }
    if (!V(f->state))
      begin_flow(skb, sk, c, f, direction, skb->cb[2], skb->cb[3]);
    f->way = skb->cb[3] < skb->len ? order_frames(skb, s, f, skb->cb[2], skb->cb[3]) : WAY_FOLLOW;
    if (V(c->kind) != K_HTTP2) {
      f->out_size = f->way = f->turn = 0;
      f->sending = E_LEAVE;
      skb->cb[1] = CLOSE_NOT;
    } else if (skb->cb[3] >= skb->len) {
      f->offset = skb->len;
    }
    f->may_copy = used_bytes() < FRAMES_BYTES / 2;
    f->is_asking = (c->stream_flags & (direction == INGRESS ? S_CLIENT_INGRESS : S_CLIENT_EGRESS)) != 0;
    if (V(f->is_asking))
      prepare_sample(&s->samples, c->cgroup_id, now);
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < FRAME_STEPS; i++) {
    asm volatile("" ::: "memory");
    if (V(f->out_size) > OUT_MAX - OUT_ROOM && !V(f->sending))
      f->sending = E_FRAMES;
    if (V(f->sending)) {
      send_out(c, f, now);
      continue;
    }
    if (V(f->turn)) {
      if (V(f->turn) == TURN_DONE)
        break;
      turn_raw(f);
      continue;
    }
    if (V(f->way) != WAY_FOLLOW)
      break;
    if (V(f->offset) < skb->len) {
      if (V(f->is_broken))
        f->turn = TURN_CUT;
      else
        take_frame(skb, c, s, f, now);
    } else if (!end_packet(skb, f)) {
      break;
    }
  }
  /* The steps may end where the packet does, before what is due of it was told. */
  u32 is_untold = V(f->is_due) || read_closing(skb) > V(f->ended);
  if (V(f->way) == WAY_FOLLOW && (V(f->offset) < skb->len || V(f->sending) || V(f->turn) || is_untold)) {
    if (V(f->turn) != TURN_DONE) {
      skb->cb[4] = skb->cb[4] + 1;
      if (skb->cb[4] == FRAME_RUNS)
        f->turn = TURN_CUT;
      programs.call(skb, PROGRAM_FOLLOW_FRAMES);
      count(C_TAIL_FAILED);
    }
    f->way = WAY_COPY;
  }
  f->turn = TURN_NOT;
  if (V(f->copied)) {
    pay_data(&s->samples, c->cgroup_id, V(f->copied), now);
    f->copied = 0;
  }
  if (V(f->way) == WAY_COPY) {
    f->is_broken = 0;
    skb->cb[2] = skb->cb[2] + V(f->offset) - skb->cb[3];
    skb->cb[3] = V(f->offset);
    programs.call(skb, PROGRAM_COPY_FRAMES);
    count(C_TAIL_FAILED);
  }
  return release(base);
}

/* ---- copying -------------------------------------------------------------------------------------------------------------------- */

#define COPY(SIZE) \
  struct bytes_##SIZE { \
    struct frames_event head; \
    u8 data[SIZE]; \
  };
COPY(512)
COPY(2048)
COPY(16384)

static __always_inline void *reserve_bytes_512(void) { return frames.ringbuf_reserve(sizeof(struct bytes_512)); }
static __always_inline void *reserve_bytes_2048(void) { return frames.ringbuf_reserve(sizeof(struct bytes_2048)); }
static __always_inline void *reserve_bytes_16384(void) { return frames.ringbuf_reserve(sizeof(struct bytes_16384)); }
static __always_inline void submit_bytes(void *event) { frames.ringbuf_submit(event, WAKE_WAITING); }

#define FILL_BYTES(SIZE) \
  do { \
    struct bytes_##SIZE *e = reserve_bytes_##SIZE(); \
    if (!e) \
      return 0; \
    u32 size = n; \
    asm volatile("" : "+r"(size)); \
    size = ((size - 1) & (SIZE - 1)) + 1; \
    asm volatile("" : "+r"(size)); \
    e->head = *event; \
    e->head.length = e->head.covered = size; \
    if (bpf_skb_load_bytes(skb, from, e->data, size) < 0) \
      e->head.length = e->head.covered = 0; \
    submit_bytes(e); \
    return 1; \
  } while (0)

static __always_inline int put_bytes(struct __sk_buff *skb, const struct frames_event *event, u32 from, u32 n) {
  if (n <= 512)
    FILL_BYTES(512);
  if (n <= 2048)
    FILL_BYTES(2048);
  FILL_BYTES(16384);
}

/* Bytes of the direction that may still go up plainly in this second. */
static __always_inline int may_copy(struct frame_flow *f, u32 n, u64 now) {
  if (now - f->raw_from_ns > SECOND_NS) {
    f->raw_from_ns = now;
    f->raw_bytes = 0;
  }
  if (f->raw_bytes > RAW_BYTES_SECOND) {
    count_many(C_RAW_REFUSED, n);
    return 0;
  }
  f->raw_bytes += n;
  return 1;
}

static __always_inline int copy_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, from = skb->cb[3], start = from, closing = 0;
  u64 now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct streams *s = 0;
  struct conn *c;
  if (sk->state == BPF_TCP_LISTEN) {
    u64 key = (u64)skb->cb[4] << 32 | skb->cb[1];
    c = deferred.lookup(&key);
  } else {
    c = conns.sk_storage_get(sk, 0, 0);
    if (skb->cb[4] != COPY_UNHELD) {
      s = streams.sk_storage_get(sk, 0, 0);
      closing = skb->cb[1];
    }
  }
  if (!c)
    return PASS;
  struct frames_event e;
  fill_event(skb, c, direction, &e);
  e.time_ns = now;
  e.kind = E_BYTES;
  e.flags = c->stream_flags;
  if (!s || may_copy(&s->flow[direction], skb->len - from, now)) {
    count_many(C_RAW_BYTES, skb->len - from);
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < COPY_STEPS; i++) {
      if (from >= skb->len)
        break;
      u32 n = skb->len - from;
      if (n > 16384)
        n = 16384;
      e.sequence = skb->cb[2] + (from - start);
      if (put_bytes(skb, &e, from, n))
        count(C_FRAMES);
      else
        count(C_FRAMES_LOST);
      from += n;
    }
  }
  if (!s)
    return PASS;
  if (closing > s->flow[direction].ended) {
    s->flow[direction].ended = closing;
    e.kind = E_END;
    e.flags |= closing == CLOSE_RESET ? S_RESET : 0;
    e.sequence = skb->cb[2] + (skb->len - start);
    e.length = e.covered = 0;
    if (frames.ringbuf_output(&e, sizeof(e), WAKE_WAITING))
      count(C_FRAMES_LOST);
  }
  return release(&c->flow[direction]);
}

#endif
