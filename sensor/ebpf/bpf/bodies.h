/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Copies the bytes after the heads of chosen calls: those whose head went up (new, or a sample) in both directions, and the responses of
 * recognised calls whose class (body_class) their route has not shown yet, with their heads. What is copied is the wire's: user space
 * undoes chunks and codings, so a piece may also hold bytes of what follows the message. Every piece has its place, by sequence numbers,
 * so that what is missing is known. Bodies are the first to go without: they have a budget of bytes, and stop where a ring is half full.
 */
#ifndef APIDAE_BODIES_H
#define APIDAE_BODIES_H

#include "emit.h"
#include "packet_state.h"
#include "call_events.h"

#define BODY_COPY 65536  /* Bytes of a body that go up at most. */
#define PIECE_MAX 8192   /* Of one event. */
#define PIECES_MAX 9     /* Of one packet: BODY_COPY and a head. */

RESERVATION(4096)
static __always_inline void *reserve_4096(void) { return events.ringbuf_reserve(sizeof(struct event_4096)); }

/* As put(), which wastes more of the ring: heads are short. */
static __always_inline int put_piece(struct __sk_buff *skb, const struct http_event *event, u32 from, u32 n) {
  if (n <= 512)
    FILL(512);
  if (n <= 2048)
    FILL(2048);
  if (n <= 4096)
    FILL(4096);
  FILL(8192);
}

/* ---- the budget of bytes -------------------------------------------------------------------------------------------------------- */

static __always_inline struct budget *find_body_budget(u64 key) {
  struct budget *b = body_budgets.lookup(&key);
  if (b)
    return b;
  struct budget fresh = {};
  body_budgets.insert(&key, &fresh);
  return body_budgets.lookup(&key);
}

/* 1: so many bytes of this cgroup may go up. Shared as the heads are (budget.h); what is owed may be a second's worth and one packet. */
static __always_inline int take_body_bytes(const struct settings *set, u64 cgroup_id, u32 size, u64 now) {
  u64 rate = set->body_bytes_per_second, node_rate = set->node_body_bytes_per_second;
  if (!rate || ring_used() > RING_BYTES / 2)
    return 0;
  struct allowance a = {
      .rate = rate,
      .most = rate + size,
      .node_rate = node_rate,
      .node_most = node_rate + size,
      .reserve_most = node_rate / RESERVE_RATE_PART + size,
  };
  return take_shared(find_body_budget(cgroup_id), find_body_budget(NODE_KEY), &a, size, now);
}

/* ---- pieces --------------------------------------------------------------------------------------------------------------------- */

/* The response of a recognised call went up for its class: the record says so, and its route has shown the class from now on. */
static __always_inline void note_class(struct bpf_sock *sk, struct conn *c, struct flow *f) {
  struct call *s = slot(sk, c, V(f->body_call));
  if (!s)
    return;
  struct leaf_key key = {.node = s->leaf_node, .has_slash = s->leaf_has_slash};
  struct leaf *leaf = leaves.lookup(&key);
  if (leaf)
    __sync_fetch_and_or(&leaf->classes, 1ULL << (V(f->body_class) & 63));
  s->flags |= CALL_BODY;
}

/* Where in the packet the copy begins: with the body, of recognised calls with the head. */
static __always_inline u32 begin_body(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f) {
  u32 number = V(f->draft_call), from = V(f->body_from);
  f->is_wanted = 0;
  f->is_begun = 1;
  f->is_copied = 0;
  struct call *s = slot(sk, c, number);
  if (!s || s->number != number)
    return from;
  u64 route = f->is_response ? s->route : 0;
  if (!route && s->flags & CALL_RECORD)
    return from; /* Its head did not go up. */
  f->body_sequence = f->next - (skb->len - from);
  f->body_call = number;
  f->body_route = route;
  f->is_copied = 1;
  f->is_noted = 0;
  return route ? V(f->head_from) : from;
}

/* Where the message's bytes in this packet end; with chunks, or a body as long as the connection, nobody knows yet. */
static __always_inline u32 find_body_end(struct __sk_buff *skb, const struct flow *f) {
  u32 offset = V(f->offset), state = V(f->parse.state);
  if (state == S_NONE)
    return offset;
  if (state == S_BODY_LENGTH && V(f->left) < skb->len - offset)
    return offset + V(f->left);
  return skb->len;
}

/* What is left to copy stands in the flow: else the verifier follows every piece by every size of the one before. */
static __always_inline void copy_pieces(struct __sk_buff *skb, const struct conn *c, struct flow *f, u64 now) {
  struct http_event e = {};
  e.kind = E_REQUEST_BODY + V(f->is_response);
  e.time_ns = now;
  e.connection = c->id;
  e.cgroup_id = c->cgroup_id;
  e.local_port = c->local_port;
  e.remote_port = c->remote_port;
  e.call = f->body_call;
  e.profile = f->body_route;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < PIECES_MAX; i++) {
    u32 n = V(f->piece_size), from = V(f->piece_from);
    if (!n)
      break;
    if (n > PIECE_MAX)
      n = PIECE_MAX;
    e.position = V(f->piece_position);
    f->piece_size = V(f->piece_size) - n;
    f->piece_from = from + n;
    f->piece_position = V(f->piece_position) + n;
    if (!put_piece(skb, &e, from, n))
      count(C_BODIES_LOST);
  }
}

/* 1: bytes went up. */
static __always_inline int copy_body(struct __sk_buff *skb, struct conn *c, struct flow *f, const struct settings *set, u32 from, u64 now) {
  u32 to = find_body_end(skb, f), size = to - from;
  s32 position = f->next - (skb->len - from) - f->body_sequence;
  f->is_copied = V(f->is_active);
  if (to <= from)
    return 0;
  if (position >= BODY_COPY) {
    f->is_copied = 0;
    return 0;
  }
  if ((s64)position + size >= BODY_COPY) {
    size = BODY_COPY - position;
    f->is_copied = 0;
  }
  if (!take_body_bytes(set, c->cgroup_id, size, now)) {
    f->is_copied = 0;
    count(C_BODIES_REFUSED);
    return 0;
  }
  count_many(C_BODY_BYTES, size);
  f->piece_from = from;
  f->piece_size = size;
  f->piece_position = position;
  copy_pieces(skb, c, f, now);
  return 1;
}

/* The body of the message in hand: what of it is in this packet. */
static __always_inline int take_body(struct __sk_buff *skb) {
  struct hand h;
  if (!take_hand(skb, &h, 0))
    return PASS;
  u32 from = V(h.f->is_wanted) ? begin_body(skb, h.sk, h.c, h.f) : V(h.f->offset);
  if (V(h.f->is_copied) && copy_body(skb, h.c, h.f, h.set, from, h.now) && !V(h.f->is_noted)) {
    h.f->is_noted = 1;
    count(C_BODIES);
    if (V(h.f->body_route))
      note_class(h.sk, h.c, h.f);
  }
  if (V(h.f->draft_kind))
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ALL);
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

#endif
