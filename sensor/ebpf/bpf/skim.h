/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The program behind `walk` in a packet of more messages than its tail calls reach. It passes over them with the same machine and counts their
 * calls as past the queue, so that the position is kept and each is in the account (`pipeline_too_deep`). What is rare (the end of a message
 * that was told of, an ambiguous request, an upgrade) ends a run, and is taken as `walk` takes it.
 */
#ifndef APIDAE_SKIM_H
#define APIDAE_SKIM_H

#include "packet_state.h"
#include "call_events.h"

#define SKIM_PARTS 10 /* A run: what the packet has of a body, or SKIM_STEPS steps of a message's lines. */
#define SKIM_STEPS 24 /* A byte that matters, or up to eight of others. */

/* Calls that wait for their responses are past the queue from now on: these are among what is passed over. */
static __always_inline void drop_told(struct conn *c, struct flow *f) {
  const struct flow *requests = &c->flow[c->request_direction & 1];
  u32 tail = V(c->tail), calls = V(c->head) - tail;
  if (!calls || V(f->is_active) || (V(requests->is_active) && !V(requests->is_untold)))
    return;
  c->tail = tail + calls;
  c->calls_counted += calls;
  __sync_fetch_and_add(&c->overflow, calls);
  draft(f, E_FORGET, 0, tail);
}

static __always_inline void end_untold(struct conn *c, struct flow *f) {
  if (V(f->is_response)) {
    __sync_fetch_and_add(&c->overflow, -1);
    c->untold++;
  }
  end_flow(f);
}

/* Of a head that is complete: its message is past the queue. */
static __always_inline void skim_head(struct conn *c, struct flow *f) {
  u32 flags = V(f->parse.flags), status = V(f->parse.status), is_bodiless = status == 204 || status == 304;
  f->left = flags & P_LENGTH ? V(f->parse.length) : 0;
  f->is_active = f->is_untold = 1;
  if (!V(f->is_response))
    __sync_fetch_and_add(&c->overflow, 1);
  if (flags & P_CHUNKED && !is_bodiless)
    f->parse.state = S_CHUNK_SIZE;
  else if (V(f->left) && !is_bodiless)
    f->parse.state = S_BODY_LENGTH;
  else if (V(f->is_response) && !(flags & P_LENGTH) && !is_bodiless)
    f->parse.state = S_BODY_CLOSE;
  else
    end_untold(c, f);
}

/* 0: what stopped the machine is rare. */
static __always_inline int skim_stop(struct conn *c, struct flow *f) {
  u32 action = V(f->parse.action), is_active = V(f->is_active), is_head = action == A_HEAD_END || action == A_HEAD_END_BARE;
  if (action == A_REJECT || V(f->parse.length) >= LENGTH_MAX || (!V(f->is_response) && V(f->parse.flags) & P_AMBIGUOUS))
    return 0;
  if (is_head && is_active && !V(f->is_untold))
    return 0;
  if (V(f->is_response) && !is_active && (V(f->parse.status) < 200 || V(c->tail) != V(c->head) || !V(c->overflow)))
    return 0;
  consume(f);
  f->parse.action = 0;
  if (!is_head) {
    f->left = V(f->parse.length);
    f->parse.state = V(f->left) ? S_CHUNK_DATA : S_LINE;
  } else if (is_active) {
    end_untold(c, f);
  } else {
    skim_head(c, f);
  }
  return 1;
}

/* 0: it ends a message that was told of. */
static __always_inline int skim_body(struct __sk_buff *skb, struct conn *c, struct flow *f, u32 state) {
  u32 here = skb->len - V(f->offset);
  u64 left = V(f->left), take = left < here ? left : here;
  if (state != S_CHUNK_DATA && (state != S_BODY_LENGTH || (left <= here && !V(f->is_untold))))
    return 0;
  f->left = left - take;
  f->offset += take;
  f->bytes += take;
  f->body += take;
  if (left > here)
    return 1;
  if (state == S_CHUNK_DATA)
    f->parse.state = S_CHUNK_AFTER;
  else
    end_untold(c, f);
  return 1;
}

static __always_inline int skim_packet(struct __sk_buff *skb) {
  u32 zero = 0;
  struct machine *m = machines.lookup(&zero);
  struct hand h;
  if (!m || !take_hand(skb, &h, 0))
    return PASS;
  u32 untold = V(h.c->untold);
  if (V(h.f->is_response))
    drop_told(h.c, h.f);
  h.f->parse.action = 0;
  h.f->parse.at = h.f->parse.end = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SKIM_PARTS; i++) {
    u32 state = V(h.f->parse.state);
    if (V(h.f->offset) >= skb->len)
      break;
    if (is_body(state)) {
      if (!skim_body(skb, h.c, h.f, state))
        break;
      continue;
    }
    if (state == S_NONE)
      begin_message(h.f, V(h.f->is_response), h.now);
    if (V(h.f->parse.at) >= V(h.f->parse.end) && !refill(skb, h.f))
      break;
    for (u32 j = 0; j < SKIM_STEPS; j++)
      machine_glide(m, &h.f->parse, h.f->window);
    if (V(h.f->parse.action) && !skim_stop(h.c, h.f))
      break;
  }
  if (!V(h.f->parse.action))
    consume(h.f);
  untold = V(h.c->untold) - untold;
  count_many(C_CALLS, untold);
  count_many(C_DROPPED_DEPTH, untold);
  add_unread(h.c, UNREAD_SEGMENT, untold, 0);
  if (V(h.f->draft_kind))
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ALL);
  u32 state = V(h.f->parse.state);
  if (V(h.f->parse.action))
    act(skb, h.sk, h.c, h.f, h.key, h.now);
  else if (is_body(state) && V(h.f->offset) < skb->len)
    skip_body(skb, h.sk, h.c, h.f, state, h.now);
  if (V(h.f->draft_kind))
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ALL);
  if (V(h.f->offset) >= skb->len && is_inside_head(h.c, h.f)) /* No part of it was told: nor will the rest be. */
    h.f->is_told = h.f->is_muted = 1;
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

#endif
