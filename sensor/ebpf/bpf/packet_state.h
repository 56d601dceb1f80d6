/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The packet in hand: a direction is held by `busy` from the entry to the end of its last tail call, because two CPUs do deliver segments of
 * one socket at once; `skb->cb` carries the packet from one program to the next (0: direction + 1, 1: enum closing, 2 and 3: the connection's
 * key, 4: its first message has begun).
 */
#ifndef APIDAE_PACKET_STATE_H
#define APIDAE_PACKET_STATE_H

#include "http2_start.h"
#include "cache_maps.h"
#include "ports.h"
#include "sockets.h"
#include "walk.h"
#include "unread.h"

/* Tries to wait for the other CPU, some 200 ns apart: 50 us. */
#define SPIN_MAX 256

static __always_inline int hold(struct flow *f) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SPIN_MAX; i++) {
    if (!__sync_lock_test_and_set(&f->busy, 1))
      return 1;
    for (u32 j = 0; j < 8; j++)
      bpf_ktime_get_ns();
  }
  count(C_CONTENDED);
  return 0;
}

static __always_inline int release(struct flow *f) {
  __sync_lock_test_and_set(&f->busy, 0);
  return PASS;
}

/* What a program behind a tail call works on. */
struct hand {
  struct bpf_sock *sk;
  struct conn *c;
  struct flow *f;
  const struct settings *set;
  u64 key;
  u64 now;
  u32 direction;
};

/* 0: the connection's state is gone. */
static __always_inline int take_hand(struct __sk_buff *skb, struct hand *h, const int is_deferred) {
  h->direction = (skb->cb[0] - 1) & 1;
  h->key = (u64)skb->cb[3] << 32 | skb->cb[2];
  h->now = bpf_ktime_get_ns();
  h->sk = skb->sk;
  if (!h->sk)
    return 0;
  h->sk = bpf_sk_fullsock(h->sk);
  if (!h->sk)
    return 0;
  h->c = found_conn(skb, h->sk, is_deferred);
  h->set = find_settings();
  if (!h->c || !h->set)
    return 0;
  h->f = &h->c->flow[h->direction];
  h->f->runs++;
  return 1;
}

static __always_inline void call_walk(struct __sk_buff *skb, const int is_deferred) {
  if (is_deferred)
    programs.call(skb, PROGRAM_WALK_DEFERRED);
  else
    programs.call(skb, PROGRAM_WALK);
}

static __always_inline void call_recognise(struct __sk_buff *skb) { programs.call(skb, PROGRAM_RECOGNISE); }

static __always_inline void call_body(struct __sk_buff *skb) { programs.call(skb, PROGRAM_BODY); }

static __always_inline void call_skim(struct __sk_buff *skb) { programs.call(skb, PROGRAM_SKIM); }

static __always_inline void call_finish(struct __sk_buff *skb) { programs.call(skb, PROGRAM_FINISH); }

#define RUNS_MAX 31           /* Of the 33 that the kernel allows: `finish` takes one after. */
/* Bytes for which a run of `skim` is kept. It passes fewer where messages are very short: then the position is lost, and the answers that
 * are left are estimated (`estimate_lost`). More runs for it, or larger ones, change such a sum by 2 %, and older verifiers refuse them. */
#define SKIM_REQUESTS 4096
#define SKIM_RESPONSES 16384 /* They have more in their heads, and bodies. */

/* 1: no more runs are left than `skim` needs for what follows in the packet. */
static __always_inline int is_skim_due(struct __sk_buff *skb, const struct flow *f) {
  u32 rest = skb->len - V(f->offset), a_run = V(f->is_response) ? SKIM_RESPONSES : SKIM_REQUESTS;
  return V(f->runs) + rest / a_run + 1 >= RUNS_MAX;
}

/* On with what is left of the packet; else its end. */
static __always_inline int leave_packet(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f,
                                        const int is_deferred) {
  if (V(c->kind) > K_HTTP) {
    flush_port(c, f);
    release(f);
    if (V(c->kind) == K_UPGRADED && V(f->offset) < skb->len && !is_deferred)
      call_frames(skb, f->next - (skb->len - V(f->offset)), V(f->offset), (skb->cb[0] - 1) & 1, skb->cb[1], AFTER_UPGRADE);
    return PASS;
  }
  if (V(f->offset) < skb->len) {
    if (!is_deferred && c->kind == K_HTTP && is_skim_due(skb, f))
      call_skim(skb);
    call_walk(skb, is_deferred);
    count(C_TAIL_FAILED);
    add_unread(c, UNREAD_SEGMENT, 0, (skb->len - V(f->offset)) * (1 - (V(f->is_response) & 1)));
    lose_position(sk, c, f);
    f->bytes += skb->len - V(f->offset);
  }
  if (c->kind == K_HTTP && is_flush_due(c, f))
    flush_port(c, f);
  if (skb->cb[1] && !is_deferred)
    call_finish(skb);
  return release(f);
}

#endif
