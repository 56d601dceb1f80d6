/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The Cookie field, cookie by cookie: browsers send counters and ids of visits that change with each request beside the session that names
 * the caller. By its name a cookie is skipped (never a credential), reported by the hash of its value (a session or key), or part of the
 * profile. A part of it is also a value with signs of an attack (attack_signs.h), with blanks, brackets or a path, and, if its hash would
 * be reported, with a dot: it may be a JWT, which user space has to read once.
 *
 * Names count as they were sent: to user space some differ by their capitals alone.
 */
#ifndef APIDAE_COOKIES_H
#define APIDAE_COOKIES_H

#include "attack_signs.h"

#define COOKIE_SEED 2         /* Keeps their names apart from those of fields and of parameters. */
#define COOKIE_NAME_MAX 64    /* As _NAME_BYTES_MAX of sensor/offload/name_table.py. */
#define COOKIE_TOLD_MAX 256   /* Longer values hold more than who calls; they are part of the profile. */

/* The bits that name_word() sets in all words are not lost. */
static __always_inline u64 cookie_word(u64 hash, u64 word) { return name_word(hash ^ (word & LOWER_CASE), word); }

static __always_inline u64 cookie_name(u64 hash, u64 rest, u32 length) {
  if (length & 7)
    hash = cookie_word(hash, rest);
  hash = (hash ^ length) * GOLDEN;
  return hash ^ hash >> 32;
}

/* Marks what ends a cookie: a semicolon, or what ends lines. */
static __always_inline u64 cookie_ends(u64 word) { return line_ends(word) | equal_bytes(word, REPEAT(';')); }

static __always_inline void start_cookie(struct head *h, const struct settings *set, u32 at) {
  at = skip_blanks(h, at);
  h->from = at;
  h->at = at;
  h->name = set->seed ^ COOKIE_SEED;
  h->mode = H_COOKIE;
}

/* The cookie in hand ends before `at`, where a semicolon or CR LF must be. */
static __always_inline void end_cookie(struct head *h, const struct settings *set, u32 at) {
  u64 word = load(h, at);
  if ((word & 0xff) == ';') {
    start_cookie(h, set, at + 1);
    return;
  }
  if ((word & 0xffff) != 0x0a0d)
    refuse(h);
  h->at = at + 2;
  h->mode = H_LINE;
}

/* The cookie in hand is part of the profile, from its name on. */
static __always_inline void hash_cookie(struct head *h, const struct settings *set) {
  sip_start(&h->sip, set->sip_key[0], set->sip_key[1]);
  h->at = V(h->from);
  h->mode = H_COOKIE_HASHED;
}

/* The name in hand ends before `at`. */
static __always_inline void end_cookie_name(struct head *h, const struct settings *set, u64 word, u32 at) {
  u32 length = at - V(h->from), kind = 0;
  u64 name = cookie_name(V(h->name), low_bytes(word, length & 7), length);
  if ((load(h, at) & 0xff) == '=')
    kind = find_name(name);
  hash_cookie(h, set);
  u64 is_told = is_zero(kind ^ N_COOKIE_TOLD) & is_zero(V(h->credential)), is_ignored = is_zero(kind ^ N_COOKIE_IGNORED);
  if (!(is_told | is_ignored))
    return;
  watch_value(h, N_HEADER_IGNORED);
  h->name = name;
  h->to = at + 1;
  h->at = at + 1;
  h->mode = choose(is_told, H_COOKIE_TOLD, H_COOKIE_IGNORED);
}

/* The value in hand, which is told, ends before `at`. */
static __always_inline void end_told_cookie(struct head *h, const struct settings *set, u64 word, u32 at) {
  u32 length = at - V(h->to);
  if (!length) {
    hash_cookie(h, set);
    return;
  }
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 2, 4);
  h->credential = hash ? hash : 1;
  h->profile = fold(V(h->profile), V(h->name));
  end_cookie(h, set, at);
}

/* Marks what such values do not have, and payloads without other signs do: blanks and brackets. */
static __always_inline u64 unfit_bytes(u64 word) { return unseen_bytes(word) | (BETWEEN(word & M7F, '(', ')') & ~word & MARKS); }

/* The same in more than one byte: escapes of blanks, of escapes and of what is not ASCII, and the beginning of a URL's or drive's path. */
static __always_inline u64 unfit_signs(const struct head *h, u32 at, u64 word) {
  u64 next = load(h, at + 1), lower = next | LOWER_CASE;
  u64 wide = equal_bytes(next, REPEAT('%')) | equal_bytes(lower, REPEAT('u')) | equal_bytes(lower, REPEAT('c')) | equal_bytes(lower, REPEAT('e'));
  wide |= equal_bytes(next, REPEAT('2')) & equal_bytes(load(h, at + 2), REPEAT('0'));
  return (equal_bytes(word, REPEAT('%')) & wide) | (equal_bytes(word, REPEAT(':')) & equal_bytes(next, REPEAT('/')));
}

/* Not 0: the value that is passed over ends in this word, or has to be looked at closely. */
static __always_inline u64 ends_ignored(const struct head *h, u64 word) {
  return (BETWEEN(word & M7F, ':', ';') & MARKS) | unfit_bytes(word) | strange(h, word);
}

/* A step of a value that is told or passed over. */
static __always_inline void cookie_value_step(struct head *h, const struct settings *set, u32 at, u64 word) {
  u64 ends = cookie_ends(word), inside = (ends & -ends) - 1; /* All bits where the value goes on. */
  u64 is_told = -is_zero(V(h->mode) ^ H_COOKIE_TOLD);
  u64 unfit = unfit_bytes(word) | unfit_signs(h, at, word) | (equal_bytes(word, REPEAT('.')) & is_told);
  unfit |= 0x80 & -(is_zero(at ^ V(h->to)) & is_zero((word & 0xff) ^ '/'));
  if (strange(h, word) & inside && odd_signs(h, at, word) & inside) {
    h->is_odd = 1;
    unfit = ~0ULL;
  }
  if (unfit & inside || at - V(h->from) > (COOKIE_TOLD_MAX | ~is_told)) {
    hash_cookie(h, set);
    return;
  }
  if (V(h->mode) == H_COOKIE_TOLD) {
    if (ends) {
      end_told_cookie(h, set, word, at + first_byte(ends));
      return;
    }
    sip_word(&h->sip, word, 2);
    h->at = at + 8;
    return;
  }
  if (ends) {
    end_cookie(h, set, at + first_byte(ends));
    return;
  }
  at += 8;
  if (!ends_ignored(h, load(h, at))) {
    at += 8;
    if (!ends_ignored(h, load(h, at)))
      at += 8;
  }
  h->at = at;
}

static __always_inline void cookie_step(struct head *h, const struct settings *set, u32 at, u64 word) {
  u8 mode = V(h->mode);
  if (mode == H_COOKIE_TOLD || mode == H_COOKIE_IGNORED) {
    cookie_value_step(h, set, at, word);
    return;
  }
  u64 ends = cookie_ends(word);
  if (mode == H_COOKIE) {
    ends |= equal_bytes(word, REPEAT('='));
    if (ends) {
      end_cookie_name(h, set, word, at + first_byte(ends));
      return;
    }
    h->name = cookie_word(V(h->name), word);
    h->at = at + 8;
    if (at - V(h->from) >= COOKIE_NAME_MAX)
      hash_cookie(h, set);
    return;
  }
  if (ends) {
    at += first_byte(ends);
    u32 length = at - V(h->from);
    h->profile = fold(V(h->profile), sip_end(&h->sip, low_bytes(word, length & 7), length, 1, 3));
    end_cookie(h, set, at);
    return;
  }
  sip_word(&h->sip, word, 1);
  h->at = at + 8;
  word = load(h, at + 8);
  if (!cookie_ends(word)) {
    sip_word(&h->sip, word, 1);
    h->at = at + 16;
  }
}

#endif
