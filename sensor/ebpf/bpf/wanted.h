/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which bodies are to go up: asked at each head, so without a branch; what is copied then is in bodies.h. */
#ifndef APIDAE_WANTED_H
#define APIDAE_WANTED_H

#include "conn.h"

/* What tells the bodies of a route apart before they are read: hundreds of the status, and size by factors of four; 64 classes. */
static __always_inline u32 body_class(u32 status, u64 length) {
  u64 v = length & 0xffffffff, size = 0, shift = (0xffff - v) >> 63 << 4;
  v >>= shift;
  size += shift;
  shift = (0xff - v) >> 63 << 3;
  v >>= shift;
  size += shift;
  shift = (0xf - v) >> 63 << 2;
  v >>= shift;
  size += shift;
  size += (0x3 - v) >> 63 << 1;
  return ((status / 100) & 3) << 4 | size >> 1;
}

/* Notes where the body of the response in hand begins, and whether it is to go up: its call is a sample, or its class is new. */
static __always_inline void want_body(struct flow *f, const struct call *s, u32 status) {
  u32 class = body_class(status, V(f->parse.length));
  f->body_from = V(f->offset);
  f->body_class = class;
  f->is_wanted = (s->flags & CALL_BODY) / CALL_BODY | (s->unseen >> class & 1);
}

/* Is a body to begin at the head in hand? One a packet: each takes a tail call from those that `walk` may need. */
static __always_inline int may_begin(const struct flow *f, const struct settings *set) {
  return V(f->is_wanted) && !V(f->is_begun) && V(set->body_bytes_per_second);
}

#endif
