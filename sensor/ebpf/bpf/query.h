/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A request's query: names by their hashes, credentials into the profile, objects, and signs of an attack. */
#ifndef APIDAE_QUERY_H
#define APIDAE_QUERY_H

#include "path.h"

#define QUERY_STEPS 44

/* Marks the bytes of a value that need a closer look: not letters, digits or plain marks. */
static __always_inline u64 odd_bytes(u64 word) {
  u64 low = word & M7F;
  u64 plain = AT_LEAST(low, 0x21) & ~BETWEEN(low, '"', '\'') & ~BETWEEN(low, ';', '>') & ~AT_LEAST(low, '{') & ~word;
  return ~plain & MARKS;
}

#define CLOSE_OPEN_WORD 0x383225393225ULL    /* "%29%28" in the low six bytes. */
#define TWO_SLASHES_WORD 0x663225663225ULL   /* "%2f%2f" */
#define TWO_SLASHES_CASE 0x200000200000ULL

/* At a percent sign: escapes of quotes, angle brackets, semicolon, dollar, brace, dot, control characters, of what is between two terms of
 * an LDAP filter, and of what is before an address in a URL. */
static __always_inline int is_suspicious_escape(u64 word) {
  u8 high = word >> 8, low = word >> 16 | 0x20, digit = word >> 48;
  u64 six = word & 0xffffffffffffULL;
  if (six == CLOSE_OPEN_WORD || ((six | TWO_SLASHES_CASE) == TWO_SLASHES_WORD && digit >= '0' && digit <= '9'))
    return 1;
  if (high == '2')
    return low == '2' || low == '4' || low == '7' || low == 'e';
  if (high == '3')
    return low == 'b' || low == 'c' || low == 'e';
  return high == '0' || (high == '7' && low == 'b');
}

/* Not 0: the plain bytes of the word at `at` begin a way upwards ("../"), an address in a URL ("//1"), or a term of an LDAP filter behind
 * another (")("). */
static __always_inline u64 plain_signs(const struct head *h, u32 at, u64 word) {
  u64 second = load(h, at + 1), third = load(h, at + 2), slashes = equal_bytes(word, REPEAT('/'));
  u64 digits = BETWEEN(third & M7F, '0', '9') & ~third & MARKS;
  u64 ups = equal_bytes(word, REPEAT('.')) & equal_bytes(second, REPEAT('.')) & equal_bytes(third, REPEAT('/'));
  return ups | (slashes & equal_bytes(second, REPEAT('/')) & digits) |
         (equal_bytes(word, REPEAT(')')) & equal_bytes(second, REPEAT('(')));
}

/* What is at an odd byte of a value that is skipped. */
static __always_inline void see_odd(struct head *h, u64 word) {
  u8 byte = word, next = word >> 8;
  if (byte == '%') {
    if (is_suspicious_escape(word))
      h->is_suspicious = 1;
  } else if (byte == '"' || byte == '\'' || byte == '<' || byte == '>' || byte == ';' || (byte == '$' && next == '(') ||
             (byte == '{' && next == '{')) {
    h->is_suspicious = 1;
  } else if (byte <= ' ' || byte == 0x7f) {
    refuse(h);
  } else if (byte == '#' || byte > 0x7f) {
    h->is_unknown = 1;
  }
}

static __always_inline void end_pair(struct head *h, const struct settings *set, u32 at, u8 delimiter) {
  h->at = at + 1;
  h->from = at + 1;
  h->name = set->seed ^ 1;
  h->mode = H_NAME;
  if (delimiter == ' ')
    h->verdict = HEAD_DONE;
}

/* The value of an object ends before `at`. */
static __always_inline void end_object(struct head *h, u64 word, u32 at) {
  u32 from = V(h->from), length = at - from;
  if (!length)
    return; /* Names nothing. */
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 2, 4), object = V(h->object);
  hash += !hash;
  h->object = object ? fold(object, hash) : hash;
  h->number = read_number(h, from, length);
}

static __always_inline void query_step(struct head *h, const struct settings *set) {
  u32 at = V(h->at), from = V(h->from), target_end = V(h->target_end);
  u8 mode = V(h->mode);
  u64 word = load(h, at);
  if (at > target_end) {
    refuse(h);
    return;
  }
  if (mode == H_SKIPPED || mode == H_OBJECT) {
    if (plain_signs(h, at, word))
      h->is_suspicious = 1;
    u64 odd = odd_bytes(word);
    if (!odd) {
      if (mode == H_OBJECT)
        sip_word(&h->sip, word, 2);
      h->at = at + 8;
      return;
    }
    at += first_byte(odd);
    u8 byte = load(h, at);
    if (byte == '&' || (byte == ' ' && at == target_end)) {
      if (mode == H_OBJECT)
        end_object(h, word, at);
      end_pair(h, set, at, byte);
      return;
    }
    if (mode == H_OBJECT) { /* Left to user space. */
      h->is_unknown = 1;
      h->mode = H_SKIPPED;
    }
    see_odd(h, load(h, at));
    h->at = at + 1;
    return;
  }
  u64 ends = equal_bytes(word, REPEAT('&')) | equal_bytes(word, REPEAT(' '));
  if (mode == H_CREDENTIAL) {
    if (unseen_bytes(word) & ((ends & -ends) - 1)) {
      refuse(h);
      return;
    }
    if (!ends) {
      sip_word(&h->sip, word, 1);
      h->at = at + 8;
      return;
    }
    at += first_byte(ends);
    u32 length = at - from;
    h->profile = fold(V(h->profile), sip_end(&h->sip, low_bytes(word, length & 7), length, 1, 3));
    u8 byte = load(h, at);
    if (byte == ' ' && at != target_end)
      refuse(h);
    else
      end_pair(h, set, at, byte);
    return;
  }
  ends |= equal_bytes(word, REPEAT('='));
  if (unseen_bytes(word) & ((ends & -ends) - 1)) {
    refuse(h);
    return;
  }
  if (!ends) {
    h->name = name_word(V(h->name), word);
    h->at = at + 8;
    return;
  }
  at += first_byte(ends);
  u32 length = at - from;
  u32 kind = find_name(name_end(V(h->name), low_bytes(word, length & 7), length));
  h->at = at;
  if (kind == N_QUERY_CREDENTIAL) {
    sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
    h->at = from;
    h->mode = H_CREDENTIAL;
    return;
  }
  u8 byte = load(h, at);
  if (kind == N_QUERY_OBJECT && byte == '=') {
    sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
    h->at = at + 1;
    h->from = at + 1;
    h->mode = H_OBJECT;
    return;
  }
  if (kind != N_QUERY_IGNORED && kind != N_QUERY_OBJECT)
    h->is_unknown = 1;
  if (byte == ' ' && at != target_end)
    refuse(h);
  h->mode = H_SKIPPED;
}

/* Where the path ended with a question mark. */
static __always_inline void read_query(struct head *h, const struct settings *set) {
  h->verdict = HEAD_GOES_ON;
  if (V(h->at) > V(h->target_end))
    return; /* The path ended the target. */
  if (V(h->at) == V(h->target_end))
    return; /* An empty query. */
  h->name = set->seed ^ 1;
  h->mode = H_NAME;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < QUERY_STEPS; i++) {
    query_step(h, set);
    if (V(h->verdict))
      break;
  }
  if (V(h->verdict) != HEAD_DONE)
    refuse(h);
}

#endif
