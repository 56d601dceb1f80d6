/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The ends of requests and responses, in the connection's queue of calls, and the event that an end asks for. */
#ifndef APIDAE_ENDS_H
#define APIDAE_ENDS_H

#include "conn.h"

static __always_inline void draft(struct flow *f, u8 kind, u8 flags, u32 call) {
  f->draft_kind = kind;
  f->draft_flags = flags;
  f->draft_call = call;
  f->draft_size = 0;
}

/* Adds the bytes of the head that lie in this packet before `end`, as far as heads are copied. */
static __always_inline void draft_head(struct flow *f, u32 end) {
  u32 limit = f->is_response ? RESPONSE_COPY : REQUEST_COPY;
  u32 copied = V(f->copied), from = V(f->head_from), size = end - from;
  if (!f->is_told)
    f->draft_flags |= F_FIRST;
  f->is_told = 1;
  if (copied >= limit) {
    f->draft_flags |= F_TRUNCATED;
    return;
  }
  if (limit - copied > HEAD_PIECE)
    limit = copied + HEAD_PIECE;
  if (size > limit - copied) {
    size = limit - copied;
    f->draft_flags |= F_TRUNCATED;
  }
  f->draft_from = from;
  f->draft_size = size;
}

static __always_inline void end_flow(struct flow *f) {
  f->is_copied = 0;
  f->parse.state = S_NONE;
  f->bytes = 0;
  f->is_active = 0;
  f->is_untold = 0;
}

/* The request is complete. Where its response was complete before (it came early), the call ends here. */
static __always_inline void end_request(struct bpf_sock *sk, struct conn *c, struct flow *f) {
  u32 number = V(c->head) - 1;
  if (!f->is_untold) {
    struct call *s = slot(sk, c, number);
    if (s) {
      s->request_bytes = f->bytes;
      if (__sync_fetch_and_add(&s->done, 1) == 1) {
        c->tail = number + 1;
        draft(f, E_CALL_END, F_ENDED, number);
      }
    }
  }
  end_flow(f);
}

/* The response is complete. `flags` are added to the event's; with an event already drafted (its head), that one tells the end. */
static __always_inline void end_response(struct bpf_sock *sk, struct conn *c, struct flow *f, u64 now) {
  u32 number = V(c->tail);
  if (f->is_untold) {
    __sync_fetch_and_add(&c->overflow, -1);
    c->untold++;
    count(C_CALLS);
    count(C_DROPPED_DEPTH);
    end_flow(f);
    return;
  }
  struct call *s = slot(sk, c, number);
  if (V(f->is_copied) == COPY_END)
    body_ends.sk_storage_delete(sk); /* Its last bytes were not known as its end. */
  if (s) {
    s->response_bytes = f->bytes;
    s->end_time_ns = now;
    if (__sync_fetch_and_add(&s->done, 1) == 1) {
      if (!f->draft_kind)
        draft(f, E_CALL_END, 0, number);
      f->draft_flags |= F_ENDED;
      c->tail = number + 1;
    }
  }
  end_flow(f);
}

/* Two programs that accept this request may end it at different bytes (sensor/http/http1/grammar.py). Its call is flagged, and what
 * follows is taken for a part of it until the answer is complete: only then the client's next words are its own for sure. */
static __always_inline void hold_request(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f) {
  u32 here = skb->len - V(f->offset);
  struct call *s = slot(sk, c, V(c->head) - 1);
  if (s && !f->is_untold)
    s->flags |= CALL_AMBIGUOUS;
  count(C_AMBIGUOUS);
  f->offset = skb->len;
  f->bytes += here;
  end_request(sk, c, f);
  c->is_blind |= here > 0;
  f->parse.state = S_HELD;
}

static __always_inline void lose_position(struct bpf_sock *sk, struct conn *c, struct flow *f) {
  f->parse.state = S_LOST;
  c->is_blind |= !f->is_response;
  count(C_RESYNC);
  u32 messages = V(f->messages);
  if (V(f->is_response) && !V(f->is_active) && messages) {
    f->mean = (V(f->offset) - V(f->from)) / messages | 1;
    f->bytes = 0;
  }
  u32 number = f->is_response ? V(c->tail) : V(c->head) - 1;
  struct call *s = slot(sk, c, number);
  if (s && f->is_active && !f->is_untold)
    s->flags |= CALL_LOSSY;
}

/* Past a lost position come as many responses as their bytes make: to requests past the queue, or to others that were passed over. */
static __always_inline void estimate_lost(struct conn *c, struct flow *f) {
  u32 mean = V(f->mean), overflow = V(c->overflow);
  if (V(f->parse.state) != S_LOST || !V(f->is_response) || !mean)
    return;
  u32 calls = V(f->bytes) / mean, waiting = calls < overflow ? calls : overflow;
  f->bytes -= (u64)calls * mean;
  if (!V(c->is_blind))
    calls = waiting;
  if (!calls)
    return;
  __sync_fetch_and_add(&c->overflow, -waiting);
  c->untold += calls;
  count_many(C_CALLS, calls);
  count_many(C_DROPPED_DEPTH, calls);
}

#endif
