/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The program before `walk` at the start of a response: the head, eight bytes a step, where it lies whole in the packet and is plain. All
 * others go on to `walk`.
 */
#ifndef APIDAE_ANSWER_H
#define APIDAE_ANSWER_H

#include "response.h"

#define ANSWER_MAX 1024 /* Bytes looked at: a longer head is left to the machine. */

/* Is a response to be expected at the flow's place? */
static __always_inline int may_answer(const struct conn *c, const struct flow *f, u32 direction) {
  return c->kind == K_HTTP && direction != c->request_direction && V(f->parse.state) == S_NONE;
}

/* 1: the head was read, and what it ends is in the flow's draft. */
static __always_inline int take_answer(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, struct head *h, u64 key,
                                       u32 direction, u64 now) {
  u32 status = read_answer(h);
  if (V(h->verdict) == HEAD_REFUSED)
    return 0;
  u32 size = V(h->size);
  start_message(skb, c, f, direction, now);
  f->parse.status = status;
  f->parse.flags = V(h->flags) | P_CONFIRMED;
  f->parse.length = V(h->length);
  f->bytes += size;
  f->offset = V(f->offset) + size;
  end_response_head(skb, sk, c, f, key, direction, now);
  return 1;
}

#endif
