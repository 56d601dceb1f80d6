/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Puts the segments of a direction in order by their sequence numbers: retransmissions, holes, and what was missed. */
#ifndef APIDAE_ORDER_H
#define APIDAE_ORDER_H

#include "conn.h"
#include "packet.h"

/* Bytes that were received while a hole was awaited belong to the message that goes on; where a message may have ended among them, the
 * position is lost. */
static __always_inline void take_unseen(struct conn *c, struct flow *f, u32 n) {
  u32 state = V(f->parse.state);
  f->bytes += n;
  if ((state == S_BODY_LENGTH || state == S_CHUNK_DATA) && V(f->left) >= n) {
    f->left -= n;
    f->body += n;
    return;
  }
  if (state != S_BODY_CLOSE && state != S_LOST && state != S_HELD) {
    f->parse.state = S_LOST;
    c->is_blind |= !f->is_response;
    count(C_RESYNC);
  }
}

/* Puts the segment in order. Gives the bytes at its start that were seen before; -1: nothing of it is to be walked. */
static __always_inline int order(struct conn *c, struct flow *f, const struct packet *p) {
  if (!f->seen) {
    f->seen = 1;
    f->next = p->sequence + p->length;
    return 0;
  }
  if (f->filling) { /* The hole was filled by the segment before: what was ignored behind it was received. */
    s32 unseen = f->high - f->next;
    f->filling = 0;
    if (unseen > 0) {
      take_unseen(c, f, unseen);
      f->next = f->high;
    }
  }
  s32 ahead = p->sequence - f->next;
  s32 end_ahead = ahead + (s32)p->length;
  if (end_ahead <= 0) {
    return -1;
  }
  u32 known = 0;
  if (ahead < 0) {
    known = -ahead;
  } else if (ahead > 0) {
    u32 state = V(f->parse.state);
    int is_countable = state == S_BODY_CLOSE || state == S_LOST || state == S_HELD ||
                       ((state == S_BODY_LENGTH || state == S_CHUNK_DATA) && V(f->left) >= (u32)ahead);
    if (!is_countable && f->waiting < WAIT_MAX) {
      if (!f->waiting || (s32)(p->sequence + p->length - f->high) > 0)
        f->high = p->sequence + p->length;
      f->waiting++;
      return -1;
    }
    take_unseen(c, f, ahead); /* Its retransmission will be a duplicate. */
  }
  if (f->waiting) {
    f->waiting = 0;
    f->filling = 1;
  }
  f->next = p->sequence + p->length;
  return known;
}

#endif
