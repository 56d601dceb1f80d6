/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A request's path, through the trie that user space taught, and the values in it. */
#ifndef APIDAE_PATH_H
#define APIDAE_PATH_H

#include "head.h"

#define PATH_STEPS 48
#define SEGMENTS_MAX 32
#define VERSION_DIGITS_MAX 2 /* As sensor/routes/templating.py: a short number near the start of a path may be a version. */
#define VERSION_DEPTH_MAX 2

static __always_inline void see_kinds(struct kinds *k, u64 word, u32 n) {
  u64 valid = n >= 8 ? MARKS : low_bytes(MARKS, n), low = word & M7F, plain = ~word & valid;
  u64 digit = BETWEEN(low, '0', '9') & plain, lower = BETWEEN(low, 'a', 'z') & plain, upper = BETWEEN(low, 'A', 'Z') & plain;
  u64 dash = equal_bytes(word, REPEAT('-')) & valid, underscore = equal_bytes(word, REPEAT('_')) & valid;
  u64 lower_hex = BETWEEN(low, 'a', 'f') & plain, upper_hex = BETWEEN(low, 'A', 'F') & plain;
  k->digit |= digit;
  k->lower_hex |= lower_hex;
  k->lower |= lower & ~lower_hex;
  k->upper_hex |= upper_hex;
  k->upper |= upper & ~upper_hex;
  k->dash |= dash;
  k->underscore |= underscore;
  k->other |= valid & ~(digit | lower | upper | dash | underscore);
  k->not_crockford |= (equal_bytes(word, REPEAT('I')) | equal_bytes(word, REPEAT('L')) | equal_bytes(word, REPEAT('O')) |
                       equal_bytes(word, REPEAT('U'))) & valid;
  k->digits += (digit >> 7) * 0x0101010101010101ULL >> 56;
  k->dashes += (dash >> 7) * 0x0101010101010101ULL >> 56;
}

/* As find_shape() of sensor/ebpf/hashes.py. */
static __always_inline u32 find_shape(const struct head *h, u32 from, u32 length) {
  const struct kinds *k = &h->kinds;
  u64 lower_hex = V(k->lower_hex), upper_hex = V(k->upper_hex), letters = V(k->lower) | V(k->upper);
  u64 marks = V(k->dash) | V(k->underscore);
  if (V(k->other))
    return SEGMENT_EXACT;
  if (!(marks | letters)) { /* Digits and hexadecimal letters. */
    if (!(lower_hex | upper_hex) && length <= 18)
      return SEGMENT_DIGITS;
    if (length >= 8 && V(k->digit) && !upper_hex && lower_hex)
      return SEGMENT_HEX_LOWER | length << 8;
    if (length >= 8 && V(k->digit) && !lower_hex && upper_hex)
      return SEGMENT_HEX_UPPER | length << 8;
  }
  if (length == 36 && !letters && !V(k->underscore) && V(k->dashes) == 4 && !(lower_hex && upper_hex)) {
    u8 a = load(h, from + 8), b = load(h, from + 13), c = load(h, from + 18), d = load(h, from + 23);
    if (a == '-' && b == '-' && c == '-' && d == '-')
      return upper_hex ? SEGMENT_UUID_UPPER : SEGMENT_UUID_LOWER;
  }
  if (length == 26 && !(marks | lower_hex | V(k->lower) | V(k->not_crockford)) && (upper_hex | V(k->upper)) &&
      (load(h, from) & 0xf8) == '0') /* The first digit is at most 7, and all digits are a number. */
    return SEGMENT_ULID;
  if (length < 20 || V(k->digits) < 2)
    return SEGMENT_EXACT;
  u32 kinds = T_DIGIT | (lower_hex | V(k->lower) ? T_LOWER : 0) | (upper_hex | V(k->upper) ? T_UPPER : 0) | (V(k->dash) ? T_DASH : 0) |
              (V(k->underscore) ? T_UNDERSCORE : 0);
  return SEGMENT_TOKEN | length << 8 | kinds << 24;
}

/* Value of a segment of 1 to 18 digits; NUMBER_NONE: it is none. */
static __always_inline u64 read_number(const struct head *h, u32 from, u32 length) {
  if (length - 1 > 17)
    return NUMBER_NONE;
  u32 part = length & 7;
  u64 value = 0;
  if (part) {
    u64 word = load(h, from);
    if ((~BETWEEN(word & M7F, '0', '9') | word) & low_bytes(MARKS, part))
      return NUMBER_NONE;
    value = decimal(word << (64 - 8 * part));
  }
#pragma unroll
  for (u32 i = 0; i < 2; i++) {
    if (part + 8 <= length) {
      u64 word = load(h, from + part);
      if ((~BETWEEN(word & M7F, '0', '9') | word) & MARKS)
        return NUMBER_NONE;
      value = value * 100000000 + decimal(word);
      part += 8;
    }
  }
  return value;
}

static __always_inline void take_edge(struct head *h, const struct edge *e, u32 from, u32 to) {
  h->node = e ? e->node : 0;
  if (!e || !(e->flags & E_PARAMETER))
    return;
  u64 hash = V(h->edge.hash), object = V(h->object);
  h->object = object ? fold(object, hash) : hash;
  h->number = read_number(h, from, to - from);
}

/* The segment in hand ends before `to`: on to the next, or to the path's end. */
static __always_inline void end_segment(struct head *h, u32 to) {
  u8 delimiter = load(h, to);
  h->at = to + 1;
  h->depth = V(h->depth) + 1;
  h->from = to + 1;
  h->mode = H_SEGMENT;
  if (delimiter != '/') {
    h->verdict = HEAD_DONE;
    return;
  }
  if (V(h->depth) >= SEGMENTS_MAX)
    h->node = 0;
}

static __always_inline void path_step(struct head *h, const struct settings *set) {
  u32 at = V(h->at), from = V(h->from);
  u64 word = load(h, at);
  struct edge *e;
  if (V(h->mode) == H_SEGMENT) {
    if (at == from)
      sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
    u64 ends = equal_bytes(word, REPEAT('/')) | equal_bytes(word, REPEAT('?')) | equal_bytes(word, REPEAT(' '));
    if (!ends) {
      sip_word(&h->sip, word, 2);
      h->at = at + 8;
      return;
    }
    at += first_byte(ends);
    u32 length = at - from;
    u8 delimiter = load(h, at);
    if (delimiter == ' ' && at != V(h->target_end)) {
      refuse(h);
      return;
    }
    if (!length) {
      /* "/" itself has no segment; behind one it is a trailing slash. */
      if (delimiter == '/')
        h->node = 0;
      else if (V(h->depth))
        h->has_slash = 1;
      end_segment(h, at);
      return;
    }
    u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 2, 4);
    h->edge.hash = hash ? hash : 1;
    h->edge.node = V(h->node);
    h->edge.shape = SEGMENT_EXACT;
    h->to = at;
    e = V(h->node) ? find_edge(&h->edge) : 0;
    if (!e && V(h->node)) {
      __builtin_memset(&h->kinds, 0, sizeof(h->kinds));
      h->at = from;
      h->mode = H_CLASS;
      return;
    }
  } else {
    u32 to = V(h->to), length = to - from;
    if (at < to) {
      see_kinds(&h->kinds, word, to - at);
      h->at = at + 8;
      return;
    }
    at = to;
    h->edge.shape = find_shape(h, from, length);
    u32 shape = V(h->edge.shape);
    e = 0;
    if (shape && (shape != SEGMENT_DIGITS || length > VERSION_DIGITS_MAX || V(h->depth) > VERSION_DEPTH_MAX)) {
      u64 hash = V(h->edge.hash);
      h->edge.hash = 0;
      e = find_edge(&h->edge);
      h->edge.hash = hash;
    }
  }
  take_edge(h, e, from, at);
  end_segment(h, at);
}

/* From `node`, which the caller sets. */
static __always_inline void read_path(struct head *h, const struct settings *set) {
  h->at = V(h->target) + 1;
  h->from = V(h->target) + 1;
  h->mode = H_SEGMENT;
  h->verdict = HEAD_GOES_ON;
  h->number = NUMBER_NONE;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < PATH_STEPS; i++) {
    path_step(h, set);
    if (V(h->verdict))
      break;
  }
  if (V(h->verdict) != HEAD_DONE)
    refuse(h);
}

#endif
