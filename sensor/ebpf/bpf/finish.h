/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The program behind FIN and RST, which ends what its connection leaves. */
#ifndef APIDAE_FINISH_H
#define APIDAE_FINISH_H

#include "packet_state.h"
#include "call_events.h"

#define FINISH_CALLS 5 /* A run; the next ones by tail call, of which 26 end QUEUE_DEEP calls and the others are the packet's. */

/* FIN or RST: a response without framing is complete with its connection; what else is outstanding was aborted. */
static __always_inline int finish_conn(struct __sk_buff *skb) {
  u32 closing = skb->cb[1];
  struct hand h;
  if (!take_hand(skb, &h, 0))
    return PASS;
  flush_unread(skb, h.c, h.direction);
  struct flow *other = &h.c->flow[!h.direction];
  u32 request_direction = h.c->request_direction & 1;
  if (h.c->kind != K_HTTP || (closing == CLOSE_FIN && h.direction == request_direction)) {
    if (h.c->kind != K_NEW)
      flush_port(h.c, h.f);
    return release(h.f); /* A client that has said all may still be answered. */
  }
  int is_held = hold(other);
  struct flow *requests = &h.c->flow[request_direction], *responses = &h.c->flow[!request_direction];
  if (responses->is_active && V(responses->parse.state) == S_BODY_CLOSE && closing == CLOSE_FIN) {
    end_response(h.sk, h.c, responses, h.now);
    if (responses->draft_kind)
      tell(skb, h.sk, h.c, responses, h.set, h.now, DRAFTS_ENDS);
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < FINISH_CALLS; i++) {
    u32 number = V(h.c->tail);
    if (number == V(h.c->head))
      break;
    struct call *s = slot(h.sk, h.c, number);
    if (!s)
      break;
    if (number == V(h.c->head) - 1 && requests->is_active)
      s->request_bytes = requests->bytes;
    if (responses->is_active)
      s->response_bytes = responses->bytes;
    responses->is_active = 0;
    s->end_time_ns = h.now;
    draft(h.f, E_CALL_END, F_ENDED | F_ABORTED, number);
    h.c->tail = number + 1;
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ENDS);
  }
  estimate_lost(h.c, responses);
  u64 untold = V(h.c->overflow);
  if (V(h.c->tail) != V(h.c->head)) {
    if (is_held)
      release(other);
    call_finish(skb);
    count(C_TAIL_FAILED);
    return release(h.f);
  }
  h.c->overflow = 0;
  h.c->untold += untold;
  if (untold) {
    count_many(C_CALLS, untold);
    count_many(C_DROPPED_DEPTH, untold);
  }
  requests->is_active = 0;
  requests->parse.state = S_LOST;
  responses->parse.state = S_LOST;
  flush_port(h.c, requests);
  flush_port(h.c, responses);
  if (is_held)
    release(other);
  return release(h.f);
}

#endif
