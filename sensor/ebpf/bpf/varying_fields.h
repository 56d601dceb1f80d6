/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Field lines that change with each caller or each request, and need no head of their own for it: a bearer token or a key that is no JWT
 * is told by its hash, as user space would hash it (SipHash-2-4 of the value); of a signed request's Authorization only what comes before
 * the first comma, which names the key, is part of the profile; of a signature in a field of its own, only that it is there.
 *
 * A JWT names somebody inside and so is part of the profile like any other line: user space has to read it once.
 */
#ifndef APIDAE_VARYING_FIELDS_H
#define APIDAE_VARYING_FIELDS_H

#include "head.h"

#define TOLD_MIN 6 /* Shorter values of a key's field are no keys: _KEY_BYTES of sensor/describe/auth/authentication.py. */

#define BEARER_WORD 0x20726572616562ULL /* "bearer " in the low seven bytes. */
#define JWT_WORD_1 0x7965               /* "ey" */
#define JWT_WORD_2 0x7765               /* "ew" */

/* 0: the value begins as a signed Authorization whose first parameter names the key. */
static __always_inline u64 differ_from_signed(const struct head *h, u32 at) {
  u64 first = load(h, at), second = load(h, at + 8), third = load(h, at + 16);
  u32 fourth = load(h, at + 24);
  u64 aws = (first ^ 0x414d482d34535741ULL /* "AWS4-HMA" */) | (second ^ 0x3635324148532d43ULL /* "C-SHA256" */) |
            (third ^ 0x746e656465724320ULL /* " Credent" */) | (fourth ^ 0x3d6c6169 /* "ial=" */);
  u64 digest = (first ^ 0x7520747365676944ULL /* "Digest u" */) | (second ^ 0x3d656d616e726573ULL /* "sername=" */);
  u64 message = (first ^ 0x727574616e676953ULL /* "Signatur" */) | (second ^ 0x3d644979656b2065ULL /* "e keyId=" */);
  return is_set(aws) & is_set(digest) & is_set(message);
}

/* 0: the value at `at` is one to be told. Without branches. */
static __always_inline u64 differ_from_told(const struct head *h, u64 first, u64 token, u64 is_key) {
  u64 bearer = ((first | LOWER_CASE) & 0xffffffffffffffULL) ^ BEARER_WORD, start = token & 0xffff;
  bearer |= (first >> 48 & 0xff) ^ ' ';
  u64 is_jwt = is_zero(start ^ JWT_WORD_1) | is_zero(start ^ JWT_WORD_2);
  u64 is_blank = (blanks(token) | token) & 0x80;
  return V(h->credential) | (is_set(bearer) ^ is_key) | is_jwt | is_blank;
}

/* The line in hand, of which the value begins at `at`, is told, cut at its first comma, or hashed as a whole. `is_key` is 0 or 1. */
static __always_inline void start_told(struct head *h, u32 at, u64 is_key) {
  u64 first = load(h, at), token = load(h, at + 7 * (is_key ^ 1));
  if (differ_from_told(h, first, token, is_key)) {
    h->mode = choose(is_key | differ_from_signed(h, at), H_HASHED, H_SIGNED);
    return;
  }
  h->to = V(h->from); /* Of the line, should it turn out to be another. */
  h->from = at;
  h->at = at;
  h->mode = H_TOLD;
  if (!is_key) { /* The scheme and its space, with the first byte of the token. */
    sip_word(&h->sip, first, 2);
    h->at = at + 8;
  }
}

/* The value in hand ends before `at`, or is none that may be told: then the line is hashed as a whole. */
static __always_inline void end_told(struct head *h, const struct settings *set, u64 word, u32 at) {
  u32 length = at - V(h->from);
  if ((load(h, at) & 0xffff) != 0x0a0d || length < TOLD_MIN) {
    sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
    h->from = h->to;
    h->at = h->to;
    h->mode = H_HASHED;
    return;
  }
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 2, 4);
  h->credential = hash ? hash : 1;
  h->profile = fold(V(h->profile), V(h->name));
  h->at = at + 2;
  h->mode = H_LINE;
}

static __always_inline void told_step(struct head *h, const struct settings *set, u32 at, u64 word) {
  u64 ends = blanks(word) | (word & MARKS) | equal_bytes(word, REPEAT(0x7f));
  if (ends) {
    end_told(h, set, word, at + first_byte(ends));
    return;
  }
  sip_word(&h->sip, word, 2);
  h->at = at + 8;
}

#endif
