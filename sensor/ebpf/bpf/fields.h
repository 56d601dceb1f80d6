/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A request head's field lines: names by their hashes, what frames the body, and the rest folded into the profile. */
#ifndef APIDAE_FIELDS_H
#define APIDAE_FIELDS_H

#include "head.h"
#include "varying_fields.h"
#include "attack_signs.h"
#include "cookies.h"

#define FIELD_STEPS 40 /* A run of the program. */
#define FIELD_RUNS 5   /* Past them the head is left to the machine. */

/* Of `enum name_kind`: names of lines that are passed over, and of those of which it is part of the profile that they are there. */
#define PRESENT_KINDS (1U << N_HEADER_PRESENT | 1U << N_HEADER_SHAPE | 1U << N_HEADER_AGENT)
#define PASSED_KINDS (1U << N_HEADER_IGNORED | 1U << N_HEADER_QUOTED | PRESENT_KINDS)

#define CONTENT_WORD 0x2d746e65746e6f63ULL  /* "content-" */
#define LENGTH_WORD 0x6874676e656cULL       /* "length" */
#define TRANSFER_WORD 0x726566736e617274ULL /* "transfer" */
#define ENCODING_WORD 0x6e69646f636e652dULL /* "-encodin" */
#define CHUNKED_WORD 0x64656b6e756863ULL    /* "chunked" */

/* The line in hand says nothing more; `kind`: of its name, 0 where it was read. */
static __always_inline void skip_value(struct head *h, u32 kind) {
  watch_value(h, kind);
  h->mode = H_SKIPPED;
}

/* All bits below the first byte of the word that is a blank or a slash. */
static __always_inline u64 product_bits(u64 word) {
  u64 ends = blanks(word) | equal_bytes(word, REPEAT('/'));
  return ((ends & -ends) >> 7) - 1;
}

/* What of a line is part of the profile besides its place, by its kind: that its value at `at` is empty, nothing, or the name of the first
 * product in it, of which the first 16 bytes count (sensor/http/http1/head.py reads the same). Without branches. */
static __always_inline u64 name_presence(const struct head *h, u32 kind, u64 name, u32 at) {
  u64 first = load(h, at), second = load(h, at + 8), bits = product_bits(first);
  u64 product = fold(fold(name, first & bits), second & product_bits(second) & ((~bits >> 63) - 1));
  u64 is_agent = -is_zero(kind ^ N_HEADER_AGENT), is_empty = is_zero(kind ^ N_HEADER_PRESENT) & is_zero((first & 0xff) ^ '\r');
  return (product & is_agent) | ((name ^ is_empty) & ~is_agent);
}

/* Of up to fifteen digits and nothing else, once. */
static __always_inline void read_length(struct head *h, u32 at) {
  at = skip_blanks(h, at);
  u64 word = load(h, at), low = word & M7F;
  u64 others = (~BETWEEN(low, '0', '9') | word) & MARKS;
  u64 value = 0;
  u32 size = 8;
  if (others) {
    size = first_byte(others);
    if (!size || h->flags & (P_LENGTH | P_CODING)) {
      refuse(h);
      return;
    }
    value = decimal(word << (64 - 8 * size) & 0x0f0f0f0f0f0f0f0fULL);
  } else {
    u64 first = word;
    word = load(h, at + 8);
    low = word & M7F;
    others = (~BETWEEN(low, '0', '9') | word) & MARKS;
    if (!others || h->flags & (P_LENGTH | P_CODING)) {
      refuse(h);
      return;
    }
    u32 more = first_byte(others);
    size += more;
    /* All but the last eight, then these. */
    value = decimal(load(h, at + more));
    if (more)
      value += decimal(first << (64 - 8 * more)) * 100000000;
  }
  if ((load(h, at + size) & 0xff) != '\r')
    refuse(h);
  h->length = value;
  h->flags |= P_LENGTH;
  h->at = at + size;
  skip_value(h, 0);
}

static __always_inline void read_coding(struct head *h, u32 at) {
  at = skip_blanks(h, at);
  u64 word = load(h, at);
  if (((word | LOWER_CASE) & 0xffffffffffffffULL) != CHUNKED_WORD || word >> 56 != '\r' || h->flags & (P_LENGTH | P_CODING))
    refuse(h);
  h->flags |= P_CHUNKED | P_CODING;
  h->at = at + 7;
  skip_value(h, 0);
}

static __always_inline void start_value(struct head *h, u32 at, u8 is_host) {
  h->from = at;
  h->at = at;
  h->is_host = is_host;
  h->mode = H_HASHED;
}

/* The name in hand ends before the colon at `at`. */
static __always_inline void end_name(struct head *h, const struct settings *set, u64 word, u32 at) {
  u32 from = V(h->from), length = at - from;
  u64 first = load(h, from), second = load(h, from + 8);
  if (length == 14 && (first | LOWER_CASE) == CONTENT_WORD && first >> 56 == '-' &&
      ((second | LOWER_CASE) & 0xffffffffffffULL) == LENGTH_WORD) {
    read_length(h, at + 1);
    return;
  }
  if (length == 17 && (first | LOWER_CASE) == TRANSFER_WORD && (second & 0xff) == '-' && (second | LOWER_CASE) == ENCODING_WORD &&
      ((load(h, from + 16) | 0x20) & 0xff) == 'g') {
    read_coding(h, at + 1);
    return;
  }
  u64 name = name_end(V(h->name), low_bytes(word, length & 7), length);
  u32 kind = find_name(name);
  if (1U << (kind & 31) & PASSED_KINDS) {
    h->at = at;
    skip_value(h, kind);
    u64 value = load(h, at + 1), is_part = is_zero(1U << (kind & 31) & PRESENT_KINDS) - 1;
    u64 other = ~(equal_bytes(value, REPEAT(' ')) | equal_bytes(value, REPEAT('\t'))) & MARKS; /* As in skip_blanks(). */
    h->verdict = V(h->verdict) | (HEAD_REFUSED & is_part & -is_zero(other));
    u64 profile = V(h->profile), folded = fold(profile, name_presence(h, kind, name, at + 1 + first_byte(other | 1ULL << 63)));
    h->profile = (profile & ~is_part) | (folded & is_part);
    return;
  }
  sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
  if (kind == N_HEADER_HOST) {
    if (h->has_host)
      refuse(h);
    h->has_host = 1;
    start_value(h, skip_blanks(h, at + 1), 1);
    return;
  }
  if (kind == N_HEADER_COOKIE) {
    h->profile = fold(V(h->profile), name);
    start_cookie(h, set, at + 1);
    return;
  }
  start_value(h, from, 0);
  if (kind == N_HEADER_KEY || kind == N_HEADER_AUTHORIZATION) {
    h->name = name;
    h->to = at + 1;
    h->mode = kind == N_HEADER_KEY ? H_KEY : H_VALUE;
  }
}

/* The value, or whole line, in hand ends before `at`, where CR LF must be, or the comma of what is signed. */
static __always_inline void end_hashed(struct head *h, u64 word, u32 at) {
  u32 length = at - V(h->from);
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 1, 3);
  u64 around = load(h, at - 1);
  u8 before = around;
  int is_comma = (around >> 8 & 0xff) == ',';
  if ((!is_comma && (around >> 8 & 0xffff) != 0x0a0d) || (h->is_host && (before == ' ' || before == '\t')))
    refuse(h);
  if (h->is_host)
    h->host = hash;
  else
    h->profile = fold(V(h->profile), hash);
  h->at = is_comma ? at : at + 2;
  h->mode = is_comma ? H_SKIPPED : H_LINE;
  h->odd_marks = h->free_marks = 0;
}

/* Not 0: the line ends in this word, or has to be looked at closely. */
static __always_inline u64 ends_skipping(const struct head *h, u64 word) { return line_ends(word) | strange(h, word); }

static __always_inline void skip_step(struct head *h, const struct settings *set, u32 at, u64 word) {
  if (!ends_skipping(h, word)) {
    at += 8;
    if (!ends_skipping(h, load(h, at))) {
      at += 8;
      if (!ends_skipping(h, load(h, at))) {
        h->at = at + 8;
        return;
      }
    }
  }
  h->at = at; /* Read back: what follows looks the same to the verifier wherever it stopped. */
  at = V(h->at);
  word = load(h, at);
  u64 ends = line_ends(word), inside = (ends & -ends) - 1; /* All bits where the line goes on. */
  if (strange(h, word) & inside && odd_signs(h, at, word) & inside) {
    h->is_odd = 1;
    sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
    start_value(h, V(h->from), 0);
    return;
  }
  h->at = at + 8;
  if (!ends)
    return;
  at += first_byte(ends);
  if ((load(h, at) & 0xffff) != 0x0a0d)
    refuse(h);
  h->at = at + 2;
  h->mode = H_LINE;
}

static __always_inline void field_step(struct head *h, const struct settings *set) {
  u32 at = V(h->at);
  u8 mode = V(h->mode);
  if (at >= V(h->end)) {
    refuse(h);
    return;
  }
  u64 word = load(h, at);
  if (mode == H_SKIPPED) {
    skip_step(h, set, at, word);
    return;
  }
  if (mode >= H_COOKIE) {
    cookie_step(h, set, at, word);
    return;
  }
  if (mode == H_VALUE || mode == H_KEY) {
    start_told(h, skip_blanks(h, V(h->to)), is_zero(V(h->mode) ^ H_KEY));
    return;
  }
  if (mode == H_TOLD) {
    told_step(h, set, at, word);
    return;
  }
  if (mode == H_HASHED || mode == H_SIGNED) {
    u64 is_comma_end = -is_zero(V(h->mode) ^ H_SIGNED);
    u64 ends = line_ends(word) | (equal_bytes(word, REPEAT(',')) & is_comma_end);
    if (ends) {
      end_hashed(h, word, at + first_byte(ends));
      return;
    }
    sip_word(&h->sip, word, 1);
    h->at = at + 8;
    word = load(h, at + 8);
    if (!(line_ends(word) | (equal_bytes(word, REPEAT(',')) & is_comma_end))) {
      sip_word(&h->sip, word, 1);
      h->at = at + 16;
    }
    return;
  }
  if (mode == H_LINE) {
    u8 byte = word;
    if (byte == '\r') {
      h->size = at + 2;
      if ((word >> 8 & 0xff) != '\n' || at + 2 > V(h->end))
        refuse(h);
      else
        accept(h);
      return;
    }
    if (byte == ' ' || byte == '\t' || byte == '"' || byte == '\'') { /* A folded line, or what some skip before a name. */
      refuse(h);
      return;
    }
    h->from = at;
    h->name = set->seed;
    h->mode = H_NAME;
  }
  u64 colons = equal_bytes(word, REPEAT(':'));
  /* No name: a line without a colon, or a byte that would pass for another or that some drop. */
  if ((blanks(word) | (word & MARKS)) & ((colons & -colons) - 1)) {
    refuse(h);
    return;
  }
  if (colons) {
    end_name(h, set, word, at + first_byte(colons));
    return;
  }
  h->name = name_word(V(h->name), word);
  h->at = at + 8;
}

static __always_inline void start_fields(struct head *h) {
  h->at = V(h->fields);
  h->mode = H_LINE;
  h->verdict = HEAD_GOES_ON;
}

/* One run: the head says whether another one is needed. */
static __always_inline void read_fields(struct head *h, const struct settings *set) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < FIELD_STEPS; i++) {
    if (V(h->verdict))
      break;
    field_step(h, set);
  }
}

/* Behind the last run. */
static __always_inline void check_fields(struct head *h) {
  int is_old_coding = V(h->flags) & P_CODING && V(h->version) == '0';
  if (V(h->verdict) != HEAD_DONE || !V(h->has_host) || is_old_coding)
    refuse(h);
}

#endif
