/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A response's head: only status and framing are wanted, so lines are skipped but for two names. Ends of lines and of the head are as the
 * machine has them. */
#ifndef APIDAE_RESPONSE_H
#define APIDAE_RESPONSE_H

#include "fields.h"

#define ANSWER_STEPS 64

static __always_inline void answer_step(struct head *h) {
  u32 at = V(h->at);
  if (at >= V(h->end)) {
    refuse(h);
    return;
  }
  if (V(h->mode) == H_LINE) {
    u64 first = load(h, at), second = load(h, at + 8);
    u32 start = first & 0xffff;
    if (start == 0x0a0d || (start & 0xff) == '\n') {
      h->size = at + 1 + (start == 0x0a0d);
      if (V(h->size) > V(h->end))
        refuse(h);
      else
        accept(h);
      return;
    }
    h->mode = H_SKIPPED;
    if ((first | LOWER_CASE) == CONTENT_WORD && first >> 56 == '-' &&
        ((second | LOWER_CASE) & 0xffffffffffffULL) == LENGTH_WORD && (second >> 48 & 0xff) == ':') {
      read_length(h, at + 15);
      return;
    }
    if ((first | LOWER_CASE) == TRANSFER_WORD && (second & 0xff) == '-' && (second | LOWER_CASE) == ENCODING_WORD) {
      u32 third = load(h, at + 16);
      if (((third | 0x20) & 0xff) == 'g' && (third >> 8 & 0xff) == ':') {
        read_coding(h, at + 18);
        return;
      }
    }
  }
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    u64 feeds = equal_bytes(load(h, at), REPEAT('\n'));
    if (feeds) {
      h->at = at + first_byte(feeds) + 1;
      h->mode = H_LINE;
      return;
    }
    at += 8;
  }
  h->at = at;
}

/* Gives the status; refused where the machine has to look. */
static __always_inline u32 read_answer(struct head *h) {
  u64 word = load(h, 0), digits = load(h, 8);
  u32 marks = BETWEEN(digits & M7F, '0', '9') & ~digits & MARKS;
  h->verdict = HEAD_GOES_ON;
  h->flags = 0;
  h->at = 12;
  h->mode = H_SKIPPED;
  u8 version = word >> 56;
  /* A blank, three digits, and no fourth. */
  if ((word & 0xffffffffffffffULL) != HTTP1_WORD || version - '0' > 9U || (digits & 0xff) != ' ' || marks != 0x80808000)
    refuse(h);
  u32 status = (digits >> 8 & 15) * 100 + (digits >> 16 & 15) * 10 + (digits >> 24 & 15);
  if ((digits >> 32 & 0xff) - '0' <= 9U)
    refuse(h);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < ANSWER_STEPS && !V(h->verdict); i++)
    answer_step(h);
  if (V(h->verdict) != HEAD_DONE)
    refuse(h);
  return status;
}

#endif
