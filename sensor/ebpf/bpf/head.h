/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads one whole request head, eight bytes a step: names and values by their hashes, the path through the trie that user space taught,
 * and how the body is framed. It takes only heads in the plain form that user space teaches (CRLF, origin-form, no folding, one Host);
 * for all others it says no, and the machine (http_machine.h), which takes everything, has them. Here are the words and the request line;
 * fields.h, path.h and query.h read the other parts, response.h responses.
 *
 * Pure but for find_name() and find_edge(), which the includer gives. Results live in memory and are read back through V(), as in
 * http_machine.h: each step looks the same to the verifier.
 */
#ifndef APIDAE_HEAD_H
#define APIDAE_HEAD_H

#define HEAD_MAX 2048 /* Bytes of a head that are looked at; a power of two. */
/* Steps bound the verifier's work, here and in the parts. A word of eight bytes takes one, the end of each part another. */
#define LINE_STEPS 43

#define GOLDEN 0x9E3779B97F4A7C15ULL
#define LOWER_CASE REPEAT(0x20)

enum head_mode { H_LINE, H_NAME, H_SKIPPED, H_HASHED, H_SIGNED, H_VALUE, H_KEY, H_TOLD, H_SEGMENT, H_CLASS, H_CREDENTIAL, H_OBJECT,
                 H_COOKIE, H_COOKIE_IGNORED, H_COOKIE_TOLD, H_COOKIE_HASHED };
enum head_verdict { HEAD_GOES_ON, HEAD_DONE, HEAD_REFUSED };

/* Which bytes a segment holds: any mark in a word says that there is one. */
struct kinds {
  u64 digit, lower_hex, lower, upper_hex, upper, dash, underscore, other, not_crockford;
  u64 digits, dashes; /* Counts. */
};

struct head {
  struct sip sip;
  struct kinds kinds;
  struct edge_key edge;
  u64 name; /* Hash of the name in hand. */
  u64 profile;
  u64 host;
  u64 credential; /* Of struct call_record. */
  u64 object;
  u64 number;
  u64 length; /* Content-Length. */
  u64 odd_first, odd_last, odd_brace, odd_marks, free_marks; /* Of the value in hand (attack_signs.h). */
  u64 method;
  u32 at;
  u32 end;    /* Bytes in hand. */
  u32 from;   /* Where the part in hand begins. */
  u32 to;     /* Where the segment in hand ends. */
  u32 target; /* First byte of the request target. */
  u32 target_end;
  u32 fields; /* First byte of the field lines. */
  u32 size;   /* Of the head; 0: its end was not found. */
  u32 node;   /* Of the trie; 0: the path is not known. */
  u32 depth;
  u8 mode;
  u8 verdict;
  u8 has_host;
  u8 is_host; /* The value in hand. */
  u8 has_slash;
  u8 flags;   /* P_*, as the machine's. */
  u8 is_suspicious;
  u8 is_odd; /* A value that its field's name would have passed over is part of the profile. */
  u8 version; /* Its last digit. */
  u8 is_recalled; /* The field lines are those of the request before. */
  u8 runs; /* Of the program that reads the field lines. */
  u8 is_unknown; /* Some name is not in `names`, or a byte in the query needs user space. */
  u8 bytes[HEAD_MAX + 48];
};

static __always_inline u32 find_name(u64 hash);                         /* enum name_kind; 0: not known. */
static __always_inline struct edge *find_edge(const struct edge_key *); /* 0: none. */

static __always_inline u64 load(const struct head *h, u32 at) { return *(const u64 *)(h->bytes + (at & (HEAD_MAX - 1))); }

static __always_inline u64 low_bytes(u64 word, u32 n) { return word & ((1ULL << (n * 8)) - 1); }

static __always_inline u64 fold(u64 left, u64 right) {
  u64 mixed = ((left << 1 | left >> 63) ^ right) * GOLDEN; /* Rotated: else equal ones cancel out, and order is lost. */
  return (mixed ^ mixed >> 32) | 1;
}

static __always_inline u64 name_word(u64 hash, u64 word) {
  hash = (hash ^ (word | LOWER_CASE)) * GOLDEN;
  return hash ^ hash >> 32;
}

static __always_inline u64 name_end(u64 hash, u64 rest, u32 length) {
  if (length & 7)
    hash = name_word(hash, rest);
  hash = (hash ^ length) * GOLDEN;
  return hash ^ hash >> 32;
}

/* Value of eight decimal digits, the first in the lowest byte; a byte of 0 is none. */
static __always_inline u64 decimal(u64 digits) {
  digits = (digits & 0x0f0f0f0f0f0f0f0fULL) * 2561 >> 8;
  digits = (digits & 0x00ff00ff00ff00ffULL) * 6553601 >> 16;
  return (digits & 0x0000ffff0000ffffULL) * 42949672960001ULL >> 32;
}

/* 0x80 in each byte of `low` (bytes below 0x80) that is at least n. */
#define AT_LEAST(low, n) ((low) + REPEAT(0x80 - (n)))
/* In each byte from `first` to `last`; other bits are noise. */
#define BETWEEN(low, first, last) (AT_LEAST(low, first) & ~AT_LEAST(low, (last) + 1))
#define MARKS REPEAT(0x80)

/* Marks control characters and the space. */
static __always_inline u64 blanks(u64 word) { return ~AT_LEAST(word & M7F, 0x21) & ~word & MARKS; }

/* And DEL: what no target may hold. */
static __always_inline u64 unseen_bytes(u64 word) { return blanks(word) | equal_bytes(word, REPEAT(0x7f)); }

static __always_inline int refuse(struct head *h) {
  h->verdict = HEAD_REFUSED;
  return 0;
}

static __always_inline int accept(struct head *h) {
  h->verdict = HEAD_DONE;
  return 0;
}

/* Marks LF, VT, FF and CR. */
static __always_inline u64 line_ends(u64 word) { return BETWEEN(word & M7F, '\n', '\r') & ~word & MARKS; }

/* Past blanks, of which there may be seven; refused where there are more. Without a branch, while the head goes on. */
static __always_inline u32 skip_blanks(struct head *h, u32 at) {
  u64 word = load(h, at);
  u64 other = ~(equal_bytes(word, REPEAT(' ')) | equal_bytes(word, REPEAT('\t'))) & MARKS;
  h->verdict = V(h->verdict) | (HEAD_REFUSED & -is_zero(other));
  return at + first_byte(other | 1ULL << 63);
}

/* ---- the request line ----------------------------------------------------------------------------------------------------------- */

/* To the line feed, four words a step. 0: no more steps. */
static __always_inline int line_step(struct head *h) {
  u32 at = V(h->at);
  if (at >= V(h->end))
    return refuse(h);
  u64 feeds = equal_bytes(load(h, at), REPEAT('\n'));
  if (!feeds) {
    at += 8;
    feeds = equal_bytes(load(h, at), REPEAT('\n'));
  }
  if (!feeds) {
    at += 8;
    feeds = equal_bytes(load(h, at), REPEAT('\n'));
  }
  if (!feeds) {
    h->at = at + 8;
    return 1;
  }
  h->at = at + first_byte(feeds);
  return accept(h);
}

static __always_inline void read_line(struct head *h) {
  u64 word = load(h, 0), space = equal_bytes(word, REPEAT(' '));
  u32 size = space ? first_byte(space) : 8;
  h->method = space ? low_bytes(word, size) : word;
  h->verdict = HEAD_GOES_ON;
  h->at = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < LINE_STEPS; i++)
    if (!line_step(h))
      break;
  u32 feed = V(h->at);
  /* "/ HTTP/1.1" is the shortest that may follow the method and its space. */
  if (V(h->verdict) != HEAD_DONE || feed >= V(h->end) || feed < size + 12) {
    refuse(h);
    return;
  }
  u64 version = load(h, feed - 9);
  u32 start = load(h, size), end = load(h, feed - 10) & 0xffff;
  h->target = size + 1;
  h->target_end = feed - 10;
  h->fields = feed + 1;
  u8 digit = version >> 56;
  u64 letters = BETWEEN(word & M7F, 'A', 'Z') | equal_bytes(word, REPEAT('-'));
  u64 others = (~letters | word) & MARKS & ((space & -space) - 1); /* Registered methods hold nothing else. */
  u64 wrong = others | (size - 1) >> 31 /* No method. */ | ((start & 0xffff) ^ 0x2f20 /* " /" */) | ((end & 0xff) ^ ' ') |
              ((version & 0xffffffffffffffULL) ^ HTTP1_WORD) |
              ((digit & 0xfe) ^ '0') | ((load(h, feed - 1) & 0xff) ^ '\r');
  if (wrong)
    refuse(h);
  h->version = digit;
  h->profile = fold(0, digit);
}

#endif
