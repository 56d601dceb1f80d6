/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Follows the messages of a direction: heads through the machine, bodies by their framing (RFC 9112 6), requests and responses matched in
 * order. One step ends at most one part (a head, a chunk, a message) and asks for at most one event, in the flow's draft.
 */
#ifndef APIDAE_WALK_H
#define APIDAE_WALK_H

#include "ends.h"
#include "wanted.h"

#define HTTP1_WORD 0x2e312f50545448ULL /* "HTTP/1." in the low seven bytes. */
#define LOOPBACK_IFINDEX 1             /* In every network namespace (net/core/dev.c: the loopback device comes first). */

/* ---- heads ---------------------------------------------------------------------------------------------------------------------- */

static __always_inline void begin_message(struct flow *f, u8 is_response, u64 now) {
  f->is_response = is_response;
  f->first_ns = now;
  f->body = 0;
  f->copied = 0;
  f->is_told = 0;
  f->is_wanted = 0;
  f->head_from = f->offset;
  f->messages++;
  parse_start(&f->parse, is_response ? S_RESPONSE : S_REQUEST);
}

static __always_inline void start_message(struct __sk_buff *skb, struct conn *c, struct flow *f, u32 direction, u64 now) {
  u16 word = 0;
  if (c->kind == K_NEW)
    bpf_skb_load_bytes(skb, V(f->offset), &word, 2);
  begin_message(f, c->kind == K_HTTP ? direction != c->request_direction : word == 0x5448 /* "HT", not "HE"AD */, now);
}

/* 0: past the queue; the call will be counted, not told. */
static __always_inline struct call *push(struct bpf_sock *sk, struct conn *c) {
  u32 number = V(c->head), depth = number - V(c->tail);
  if (V(c->overflow) || depth >= QUEUE_DEEP)
    return 0;
  if (depth >= QUEUE_INLINE && !c->is_deep) {
    if (sk->state == BPF_TCP_LISTEN || !deeps.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
      return 0;
    c->deep_from = number;
    c->is_deep = 1;
  }
  struct call *s = slot(sk, c, number);
  if (!s)
    return 0;
  __builtin_memset(s, 0, sizeof(*s));
  s->number = number;
  return s;
}

/* Of the packet in hand, read anew at each use: the verifier shall not follow the rest of a program once for each direction it learned of. */
static __always_inline u32 read_direction(struct __sk_buff *skb) { return *(volatile u32 *)&skb->cb[0] - 1; }

/* The client end of a connection whose server end is surely seen. */
static __always_inline int is_local_client(struct __sk_buff *skb, u32 direction) {
  return LOOPBACK_IS_LOCAL && direction == EGRESS && skb->ifindex == LOOPBACK_IFINDEX;
}

/* Where client and server are both on this node only the server end is told. 1: this is the client end of such a connection. */
static __always_inline int leave_to_server(struct __sk_buff *skb, struct conn *c, struct flow *f, u64 key, u32 direction) {
  if (direction == EGRESS) {
    struct client_end own = {.cgroup_id = c->cgroup_id, .connection = c->id};
    if (!c->is_lookup_done) /* The server's end asks with its first request. */
      clients.update(&key, &own);
    if (!is_local_client(skb, direction))
      return 0;
    c->kind = K_LOCAL_CLIENT;
    if (f->is_told)
      draft(f, E_FORGET, 0, 0);
    return 1;
  }
  if (!c->is_lookup_done) {
    u8 one = 1;
    servers.update(&key, &one);
    struct client_end *peer = clients.lookup(&key);
    if (peer)
      c->peer_cgroup_id = peer->cgroup_id;
    c->is_lookup_done = 1;
  }
  return 0;
}

/* `may_be_ambiguous` is a constant: heads that are recognised are not. */
static __always_inline void end_request_head(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u64 key,
                                             u32 direction, const int may_be_ambiguous) {
  if (c->kind == K_NEW) {
    c->kind = K_HTTP;
    c->request_direction = direction;
  }
  if (leave_to_server(skb, c, f, key, direction))
    return;
  struct call *s = push(sk, c);
  f->is_active = 1;
  f->is_untold = !s;
  u8 flags = V(f->parse.flags);
  if (s) {
    s->request_time_ns = f->first_ns;
    s->flags = (flags & P_HEAD ? CALL_NO_BODY : 0) | (flags & P_CONNECT ? CALL_CONNECT : 0) | CALL_BODY;
    draft(f, E_REQUEST_HEAD, F_LAST, s->number);
    draft_head(f, V(f->offset));
    c->head = s->number + 1;
  } else {
    __sync_fetch_and_add(&c->overflow, 1);
  }
  f->left = V(f->parse.length);
  f->body_from = V(f->offset);
  f->is_wanted = !f->is_untold;
  if (may_be_ambiguous && (flags & P_AMBIGUOUS || f->left >= LENGTH_MAX)) {
    hold_request(skb, sk, c, f);
  } else if (flags & P_CHUNKED) {
    f->parse.state = S_CHUNK_SIZE;
  } else if (flags & P_LENGTH && f->left) {
    f->parse.state = S_BODY_LENGTH;
  } else {
    f->is_wanted = 0;
    if (s) {
      s->request_bytes = f->bytes;
      s->done = 1; /* The response cannot have come yet. */
    }
    end_flow(f);
  }
}

/* What follows a granted upgrade does not read as HTTP/1: it is another protocol from the message's beginning on, as far as that lies in the
 * packet in hand. What was taken for its requests were none. */
static __always_inline void leave_tunnel(struct conn *c, struct flow *f) {
  u32 head = V(c->head), tail = V(c->tail);
  c->kind = K_UPGRADED;
  f->offset = V(f->head_from);
  if (head != tail || f->is_told)
    draft(f, E_FORGET, 0, tail);
  c->head = tail;
  c->overflow = 0;
}

/* A response that answers nothing we saw. 1: its request is among what was passed over, and is counted as one past the queue. Else it was
 * joined in the middle of a call, or sent unasked (408), and is not a call. */
static __always_inline int take_orphan(struct conn *c, struct flow *f) {
  count(C_ORPHANS);
  if (V(c->is_blind)) {
    __sync_fetch_and_add(&c->overflow, 1);
    return 1;
  }
  f->bytes = 0;
  f->parse.state = S_LOST;
  return 0;
}

static __always_inline void end_response_head(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u64 key,
                                              u32 direction, u64 now) {
  if (c->kind == K_NEW) {
    c->kind = K_HTTP;
    c->request_direction = !direction;
  }
  if (direction == INGRESS && !c->is_lookup_done) {
    c->is_lookup_done = 1;
    if (servers.lookup(&key)) { /* Its end saw the request before we see the response. */
      c->kind = K_LOCAL_CLIENT;
      draft(f, E_FORGET, 0, V(c->head)); /* Of no call: the first may be one that is told by records. */
      return;
    }
  }
  u32 number = V(c->tail), status = V(f->parse.status);
  if (status < 200 && status != 101) { /* Interim: the final response follows, and its bytes are added. */
    f->parse.state = S_NONE;
    return;
  }
  if (number == V(c->head)) {
    if (!V(c->overflow) && V(c->is_tunnel))
      return leave_tunnel(c, f);
    if (!V(c->overflow) && !take_orphan(c, f))
      return;
    f->is_untold = 1;
  }
  struct call *s = f->is_untold ? 0 : slot(sk, c, number);
  u8 call_flags = s ? s->flags : 0, flags = V(f->parse.flags);
  u32 is_tunnel = call_flags & CALL_CONNECT && status < 300, is_upgrade = status == 101 || is_tunnel;
  c->is_tunnel = is_upgrade;
  f->is_active = 1;
  if (s) {
    s->status = status;
    s->response_time_ns = f->first_ns;
    draft(f, E_RESPONSE_HEAD, F_LAST | (is_upgrade ? F_UPGRADED : 0), number);
    draft_head(f, V(f->offset));
    want_body(f, s, status);
  }
  f->left = flags & P_LENGTH ? V(f->parse.length) : 0;
  /* A server that frames a body behind its 2xx to CONNECT is none that opens a tunnel (RFC 9110 9.3.6). */
  if (status == 101 || call_flags & CALL_NO_BODY || status == 204 || status == 304 || (is_tunnel && !(flags & (P_CHUNKED | P_LENGTH))))
    f->left = 0;
  else if (flags & P_CHUNKED) {
    f->parse.state = S_CHUNK_SIZE;
    return;
  } else if (!(flags & P_LENGTH) || f->left >= LENGTH_MAX) {
    f->parse.state = S_BODY_CLOSE;
    return;
  }
  /* What of the body is in this packet is taken at once, so that most calls need one event. */
  u32 here = skb->len - V(f->offset);
  u64 take = f->left < here ? f->left : here;
  f->left -= take;
  f->bytes += take;
  f->offset += take;
  if (f->left)
    f->parse.state = S_BODY_LENGTH;
  else
    end_response(sk, c, f, now);
  if (is_upgrade && V(c->flow[c->request_direction & 1].parse.state) == S_LOST) /* What the client sent at once is no HTTP/1. */
    c->kind = K_UPGRADED;
}

/* ---- what a step may find ------------------------------------------------------------------------------------------------------- */

static __always_inline void end_message(struct bpf_sock *sk, struct conn *c, struct flow *f, u64 now) {
  if (f->is_response)
    end_response(sk, c, f, now);
  else
    end_request(sk, c, f);
}

static __always_inline void reject(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f) {
  if (c->kind == K_HTTP) {
    if (V(c->is_tunnel) && !V(f->is_active))
      leave_tunnel(c, f);
    else
      lose_position(sk, c, f);
    return;
  }
  end_flow(f);
  f->profile = 0;
  f->host = 0;
  f->credential = 0;
  f->offset = skb->len;
  if (++c->tries >= TRIES_MAX) {
    c->kind = K_OTHER;
  }
}

static __always_inline void skip_body(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u32 state, u64 now) {
  u32 here = skb->len - V(f->offset);
  u64 take = here;
  if (state == S_BODY_LENGTH || state == S_CHUNK_DATA) {
    take = f->left < here ? f->left : here;
    f->left -= take;
  } else if (state == S_HELD) {
    c->is_blind = 1;
    struct call *s = slot(sk, c, V(c->head) - 1);
    if (s && V(c->head) != V(c->tail))
      s->request_bytes += take;
  }
  f->offset += take;
  f->bytes += take;
  f->body += take;
  if (state == S_BODY_LENGTH && !f->left)
    end_message(sk, c, f, now);
  else if (state == S_CHUNK_DATA && !f->left)
    f->parse.state = S_CHUNK_AFTER;
}

static __always_inline int is_body(u32 state) {
  return state == S_BODY_LENGTH || state == S_CHUNK_DATA || state == S_BODY_CLOSE || state == S_LOST || state == S_HELD;
}

static __always_inline int is_inside_head(struct conn *c, struct flow *f) {
  u32 state = V(f->parse.state);
  return state != S_NONE && !is_body(state) && !f->is_active && !f->draft_kind && V(c->kind) <= K_HTTP;
}

/* 1: the segment's `here` bytes are body and nothing else, more of it follows, and nobody wants a copy: so are most of a long body's, and
 * nothing of them is looked at. Of a request's body not the first one, which may be another request (`resume`). Of one whose end is wanted
 * all but the last segments. */
static __always_inline int pass_body(const struct conn *c, struct flow *f, const struct settings *set, u32 here) {
  u32 state = V(f->parse.state);
  if (c->kind != K_HTTP || (state != S_BODY_LENGTH && state != S_CHUNK_DATA) || V(f->left) <= here)
    return 0;
  u64 is_wanted = V(f->is_wanted) & !!set->body_bytes_per_second;
  u64 is_end_near = V(f->is_copied) >> 1 & is_below(V(f->left) - here, ENDS_KEPT * END_BYTES);
  if (is_wanted | (V(f->is_copied) & COPY_BODY) | is_end_near | V(f->is_due) | V(f->draft_kind) | !(V(f->is_response) | V(f->body)))
    return 0;
  f->left -= here;
  f->bytes += here;
  f->body += here;
  return 1;
}

static __always_inline u32 consume(struct flow *f) {
  u32 n = machine_consume(&f->parse);
  f->bytes += n;
  f->offset = V(f->offset) + n;
  return V(f->offset);
}

/* The next window of the packet; 0: no more. */
static __always_inline int refill(struct __sk_buff *skb, struct flow *f) {
  u32 offset = consume(f), n = skb->len - offset;
  if (offset >= skb->len)
    return 0;
  n = choose(is_below(n, WINDOW), n, WINDOW);
  asm volatile("" : "+r"(n));
  n = ((n - 1) & (WINDOW - 1)) + 1;
  asm volatile("" : "+r"(n));
  if (bpf_skb_load_bytes(skb, offset, f->window, n) < 0)
    return 0;
  f->parse.end = n;
  return 1;
}

#define SCAN_STEPS 104

/* Runs the machine over the packet until an action stops it, the packet ends, or the steps do. */
static __always_inline void scan(struct __sk_buff *skb, struct flow *f, const struct machine *m) {
  for (u32 i = 0; i < SCAN_STEPS; i++) {
    if (!machine_step(m, &f->parse, f->window) && !refill(skb, f))
      return;
    if (V(f->parse.action))
      return;
  }
}

/* The end of a head or, within a message, of its trailer section. */
static __always_inline void end_fields(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u64 key, u32 direction,
                                       u64 now) {
  if (f->is_active) {
    if (!f->is_response && V(f->parse.flags) & P_AMBIGUOUS)
      hold_request(skb, sk, c, f);
    else
      end_message(sk, c, f, now);
  } else if (f->is_response) {
    end_response_head(skb, sk, c, f, key, direction, now);
  } else {
    end_request_head(skb, sk, c, f, key, direction, 1);
  }
}

static __always_inline void start_chunk(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f) {
  f->left = V(f->parse.length);
  f->parse.state = f->left ? S_CHUNK_DATA : S_LINE;
  if (!f->is_response && (V(f->parse.flags) & P_AMBIGUOUS || f->left >= LENGTH_MAX))
    return hold_request(skb, sk, c, f);
  /* What of the chunk is in this packet is taken at once: a step a chunk. Without a branch. */
  u64 left = V(f->left), here = skb->len - V(f->offset), take = choose(is_below(left, here), left, here);
  f->left = left - take;
  f->offset += take;
  f->bytes += take;
  f->body += take;
  f->parse.state = choose(is_set(left) & is_zero(left - take), S_CHUNK_AFTER, V(f->parse.state));
}

/* What stopped the machine, if anything did. */
static __always_inline void act(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u64 key, u64 now) {
  consume(f);
  u8 action = V(f->parse.action);
  if (action == A_HEAD_END || action == A_HEAD_END_BARE) {
    end_fields(skb, sk, c, f, key, read_direction(skb), now);
  } else if (action == A_CHUNK_END || action == A_CHUNK_END_BARE) {
    start_chunk(skb, sk, c, f);
  } else if (action == A_REJECT && f->is_active && !f->is_response) {
    hold_request(skb, sk, c, f);
  } else if (action == A_REJECT || (V(f->parse.state) == S_METHOD && V(f->parse.head_bytes) > METHOD_MAX)) {
    reject(skb, sk, c, f);
  }
}

static __always_inline void step(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, const struct machine *m,
                                 u64 key, u64 now) {
  u32 state = V(f->parse.state);
  if (is_body(state)) {
    skip_body(skb, sk, c, f, state, now);
    return;
  }
  if (state == S_NONE) {
    start_message(skb, c, f, read_direction(skb), now);
    f->is_tried = 0;
  }
  f->parse.action = 0;
  f->parse.at = f->parse.end = 0;
  scan(skb, f, m);
  act(skb, sk, c, f, key, now);
}

/* 1: a request begins with this word. Without branches. */
static __always_inline int is_known_method(u64 word) {
  u64 w = (u32)word;
  return is_below(w ^ 0x20544547 /* GET */, 1) | is_below(w ^ 0x54534f50 /* POST */, 1) | is_below(w ^ 0x20545550 /* PUT */, 1) |
         is_below(w ^ 0x44414548 /* HEAD */, 1) | is_below(w ^ 0x454c4544 /* DELE */, 1) | is_below(w ^ 0x43544150 /* PATC */, 1) |
         is_below(w ^ 0x4954504f /* OPTI */, 1) | is_below(w ^ 0x4e4e4f43 /* CONN */, 1) | is_below(w ^ 0x43415254 /* TRAC */, 1);
}

/* At the start of a segment: does a message start here although the one before did not come to its end? After a lost position, a body
 * without framing, an ambiguous request, or a request body that was promised (Expect: 100-continue), refused and never sent. */
static __always_inline void resume(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, u64 now) {
  u32 state = V(f->parse.state), offset = V(f->offset);
  estimate_lost(c, f);
  if (!is_body(state) || state == S_CHUNK_DATA || skb->len - offset < 8)
    return;
  u64 word = 0;
  bpf_skb_load_bytes(skb, offset, &word, 8);
  u32 head = V(c->head), depth = head - V(c->tail);
  if (f->is_response) {
    if (!V(f->is_active))
      depth += V(c->is_blind) + V(c->overflow);
    if (state == S_BODY_LENGTH || (word & 0xffffffffffffffULL) != HTTP1_WORD || depth < (f->is_active ? 2 : 1))
      return;
    if (f->is_active)
      end_response(sk, c, f, now);
  } else {
    if (state == S_BODY_CLOSE || (state == S_HELD && (depth || V(c->overflow))) || !is_known_method(word))
      return;
    struct call *s = slot(sk, c, head - 1);
    if (state == S_BODY_LENGTH && (f->body || !s || s->done != 1))
      return;
    if (f->is_active)
      end_request(sk, c, f);
  }
  end_flow(f);
}

#endif
