/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Signs of an attack in values that are passed over by their field's name (User-Agent, Referer, ids of requests). A line that has one is
 * hashed into the profile like a line of any other name: so its head goes up once, is held against the attack rules there, and is taught
 * where they find nothing; what they find is never taught (sensor/offload/installer.py) and goes up each time, within the budget.
 *
 * Every word is asked in some 25 instructions whether it may hold a sign (`strange`); what may is looked at closely, eight bytes a step.
 */
#ifndef APIDAE_ATTACK_SIGNS_H
#define APIDAE_ATTACK_SIGNS_H

#include "head.h"

/* Which signs count in the line in hand, by the kind of its name. Without branches. */
static __always_inline void watch_value(struct head *h, u32 kind) {
  u64 is_quoted = is_zero(kind ^ N_HEADER_QUOTED) | is_zero(kind ^ N_HEADER_SHAPE);
  u64 is_free = is_zero(kind ^ N_HEADER_IGNORED) | is_zero(kind ^ N_HEADER_AGENT);
  h->odd_first = REPEAT(0x80 - '"') - is_quoted * REPEAT('$' - '"');
  h->odd_last = REPEAT(0x80 - '&') + is_quoted * REPEAT('&' - '%');
  h->odd_brace = REPEAT(0x80 - '{') - is_quoted * REPEAT('|' - '{');
  h->odd_marks = (is_free | is_quoted) * MARKS;
  h->free_marks = is_free * MARKS;
}

/* 0: the word holds no sign, nor the beginning of one. `'`, `` ` ``, `<`, `\`, `|` and `$`; where values have no quotes of their own also
 * `"`, `#`, `%`, `;`, `[`, `{` ('[' and '#' only because they lie between the others), and two dots in a row or one at the end. */
static __always_inline u64 strange(const struct head *h, u64 word) {
  u64 low = word & M7F, high = low | REPEAT(0x60), dots = word ^ REPEAT('.');
  u64 marks = (low + V(h->odd_first)) & ~(low + V(h->odd_last));
  marks |= BETWEEN(low, '\'', '\'') | BETWEEN(low, '`', '`') | ((high + V(h->odd_brace)) & ~AT_LEAST(high, '}'));
  dots |= dots >> 8;
  return (marks & ~word & V(h->odd_marks)) | ((dots - REPEAT(1)) & ~dots & V(h->free_marks));
}

/* Escapes of quotes, dollar, percent sign, dot, semicolon, angle bracket, brace, and of control characters. */
static __always_inline u64 odd_escapes(u64 high, u64 low) {
  u64 lower = low | LOWER_CASE;
  u64 twos = equal_bytes(low, REPEAT('2')) | equal_bytes(low, REPEAT('4')) | equal_bytes(low, REPEAT('5')) |
             equal_bytes(low, REPEAT('7')) | equal_bytes(lower, REPEAT('e'));
  u64 bs = equal_bytes(lower, REPEAT('b')), cs = equal_bytes(lower, REPEAT('c'));
  return (equal_bytes(high, REPEAT('2')) & twos) | (equal_bytes(high, REPEAT('3')) & (bs | cs)) |
         (equal_bytes(high, REPEAT('7')) & bs) | equal_bytes(high, REPEAT('0'));
}

/* A command of up to seven letters behind the word's first semicolon. What has an equals sign behind it is a parameter. */
static __always_inline u64 odd_semicolon(const struct head *h, u32 at, u64 semicolons) {
  u64 first = semicolons & -semicolons, name = load(h, at + first_byte(semicolons) + 1), lower = name | LOWER_CASE;
  u64 others = (~BETWEEN(lower & M7F, 'a', 'z') | name) & MARKS;
  u64 end = others & -others, is_command = is_set(end >> 8) & is_zero(end & equal_bytes(name, REPEAT('=')));
  return first & -is_command;
}

/* Marks the signs in the word at `at`, which is strange. */
static __always_inline u64 odd_signs(const struct head *h, u32 at, u64 word) {
  u64 always = equal_bytes(word, REPEAT('$')) | equal_bytes(word, REPEAT('\'')) | equal_bytes(word, REPEAT('`')) |
               equal_bytes(word, REPEAT('<')) | equal_bytes(word, REPEAT('\\')) | equal_bytes(word, REPEAT('|'));
  u64 next = load(h, at + 1), escapes = equal_bytes(word, REPEAT('%')), semicolons = equal_bytes(word, REPEAT(';'));
  u64 often = equal_bytes(word, REPEAT('"')) | equal_bytes(word, REPEAT('{')) |
              (equal_bytes(word, REPEAT('.')) & equal_bytes(next, REPEAT('.')));
  if (escapes)
    often |= escapes & odd_escapes(next, load(h, at + 2));
  if (semicolons)
    often |= odd_semicolon(h, at, semicolons);
  return (always & V(h->odd_marks)) | (often & V(h->free_marks));
}

#endif
