/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Copies the bytes after the heads of chosen calls: those whose head went up (new, or a sample) in both directions, and the responses of
 * recognised calls whose class (body_class) their route has not shown yet, with their heads. What is copied is the wire's: user space
 * undoes chunks and codings, so a piece may also hold bytes of what follows the message. Every piece has its place, by sequence numbers,
 * so that what is missing is known. Bodies are the first to go without: they have a budget of bytes, and stop where a ring is half full.
 *
 * Of a response that is longer its end is copied too: what models of language counted stands there. The last packets wait in the socket's
 * memory until the message ends, for nobody knows before which ones these are. A response that ends with its connection has no end. With
 * chunks the end is known by its last bytes, which a body may contain too: so an end is sent twice a message at most.
 */
#ifndef APIDAE_BODIES_H
#define APIDAE_BODIES_H

#include "emit.h"
#include "packet_state.h"
#include "call_events.h"

#define BODY_COPY 65536  /* Bytes of a body that go up at most, */
#define LIST_COPY 262144 /* and of an answer that says what an MCP server has. */
#define LIST_WORD 0x227473696c2f73ULL /* `s/list"`, of `tools/list` and others, */
#define METHOD_WORD 0x22646f6874656d22ULL /* behind the name `"method"`, */
#define LIST_BYTES 128   /* which stands this near to a request's beginning. */
#define ENDS_SENT_MAX 2  /* Of a message. */
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
  f->body_most = f->is_response && s->is_list ? LIST_COPY : BODY_COPY;
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

/* Does a request's body, whose first bytes are at hand, ask for a list of MCP: an object with such a method? */
static __always_inline u8 asks_for_list(struct __sk_buff *skb, u32 from) {
  u8 bytes[LIST_BYTES] = {};
  u64 word = 0, is_named = 0, found = 0;
  u32 n = skb->len - from;
  if (n > LIST_BYTES)
    n = LIST_BYTES;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & (LIST_BYTES - 1)) + 1;
  asm volatile("" : "+r"(n));
  if (bpf_skb_load_bytes(skb, from, bytes, n) < 0)
    return 0;
#pragma unroll
  for (u32 i = 0; i < LIST_BYTES; i++) {
    word = word >> 8 | (u64)bytes[i] << 56;
    is_named |= is_zero(word ^ METHOD_WORD);
    found |= is_named & is_zero(word >> 8 ^ LIST_WORD);
  }
  return found & is_zero(bytes[0] ^ '{');
}

/* ---- the end of a response ------------------------------------------------------------------------------------------------------ */

/* Does the message end with the packet in hand? With chunks: as nearly all of them end, without fields behind the last one. */
static __always_inline int is_over(struct __sk_buff *skb, const struct flow *f) {
  if (V(f->parse.state) == S_BODY_LENGTH)
    return V(f->left) <= skb->len - V(f->offset);
  u64 word = 0;
  if (skb->len < 5 || bpf_skb_load_bytes(skb, skb->len - 5, &word, 5) < 0)
    return 0;
  return word == 0x0a0d0a0d30ULL; /* "0\r\n\r\n" */
}

/* One of the last packets goes up, from memory. */
static __always_inline void send_end(const struct http_event *event, struct body_end *end) {
  struct event_1024 *e = reserve_1024();
  if (!e) {
    count(C_BODIES_LOST);
    return;
  }
  e->head = *event;
  e->head.position = end->position;
  e->head.length = end->size;
  __builtin_memcpy(e->data, end->data, END_BYTES);
  submit(e);
}

static __always_inline void send_ends(const struct conn *c, struct flow *f, const struct settings *set, struct body_ends *ends, u64 now) {
  u64 n = V(ends->count), first = n > ENDS_KEPT ? n - ENDS_KEPT : 0;
  if (!take_body_bytes(set, c->cgroup_id, (n - first) * END_BYTES, now)) {
    count(C_BODIES_REFUSED);
    return;
  }
  count_many(C_BODY_BYTES, (n - first) * END_BYTES);
  struct http_event e = {};
  e.kind = E_RESPONSE_BODY;
  e.flags = F_LAST;
  e.time_ns = now;
  e.connection = c->id;
  e.cgroup_id = c->cgroup_id;
  e.local_port = c->local_port;
  e.remote_port = c->remote_port;
  e.call = f->body_call;
  e.profile = f->body_route;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < ENDS_KEPT; i++)
    if (first + i < n)
      send_end(&e, &ends->ends[(first + i) & (ENDS_KEPT - 1)]);
}

/* Keeps what the packet in hand has of a body's end, from `from` on; with the last packet all of them are sent, and the memory is free. */
static __always_inline void keep_end(struct __sk_buff *skb, struct bpf_sock *sk, const struct conn *c, struct flow *f,
                                     const struct settings *set, u32 from, u64 now) {
  struct body_ends *ends = body_ends.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  u32 to = find_body_end(skb, f), n = to - from;
  if (!ends || to <= from)
    return;
  if (n > END_BYTES)
    n = END_BYTES;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & (END_BYTES - 1)) + 1;
  asm volatile("" : "+r"(n));
  struct body_end *end = &ends->ends[V(ends->count) & (ENDS_KEPT - 1)];
  end->position = f->next - (skb->len - (to - n)) - f->body_sequence;
  end->size = n;
  if (bpf_skb_load_bytes(skb, to - n, end->data, n) < 0)
    end->size = 0;
  ends->count++;
  if (!is_over(skb, f))
    return;
  send_ends(c, f, set, ends, now);
  body_ends.sk_storage_delete(sk);
  f->ends_sent++;
  if (V(f->ends_sent) >= ENDS_SENT_MAX)
    f->is_copied = COPY_NOT;
}

/* No more of a body is copied; of a response its end. */
static __always_inline void end_copy(struct bpf_sock *sk, struct flow *f) {
  f->is_copied = COPY_NOT;
  if (!V(f->is_response) || !V(f->is_active) || V(f->parse.state) == S_BODY_CLOSE)
    return;
  body_ends.sk_storage_delete(sk);
  f->ends_sent = 0;
  f->is_copied = COPY_END;
}

/* 1: bytes went up. */
static __always_inline int copy_body(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, const struct settings *set,
                                     u32 from, u64 now) {
  u32 to = find_body_end(skb, f), size = to - from;
  s32 position = f->next - (skb->len - from) - f->body_sequence, most = V(f->body_most);
  f->is_copied = V(f->is_active);
  if (to <= from)
    return 0;
  if (position >= most) {
    end_copy(sk, f);
    return 0;
  }
  if (!V(f->is_response) && !position) {
    struct call *s = slot(sk, c, V(f->body_call));
    if (s)
      s->is_list = asks_for_list(skb, from);
  }
  if ((s64)position + size >= most) {
    size = most - position;
    end_copy(sk, f);
  }
  if (!take_body_bytes(set, c->cgroup_id, size, now)) {
    f->is_copied = COPY_NOT;
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
  if (V(h.f->is_copied) == COPY_BODY && copy_body(skb, h.sk, h.c, h.f, h.set, from, h.now) && !V(h.f->is_noted)) {
    h.f->is_noted = 1;
    count(C_BODIES);
    if (V(h.f->body_route))
      note_class(h.sk, h.c, h.f);
  }
  if (V(h.f->is_copied) == COPY_END)
    keep_end(skb, h.sk, h.c, h.f, h.set, from, h.now);
  if (V(h.f->draft_kind))
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ALL);
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

#endif
