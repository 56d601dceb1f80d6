/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads one whole request head, eight bytes a step: names and values by their hashes, the path through the trie that user space taught,
 * and how the body is framed. It takes only heads in the plain form that user space teaches (CRLF, origin-form, no folding, one Host);
 * for all others it says no, and the machine (http_machine.h), which takes everything, has them.
 *
 * Pure but for find_name() and find_edge(), which the includer gives. Results live in memory and are read back through V(), as in
 * http_machine.h: each step looks the same to the verifier.
 */
#ifndef APIDAE_HEAD_H
#define APIDAE_HEAD_H

#define HEAD_MAX 2048 /* Bytes of a head that are looked at; a power of two. */
#define SEGMENTS_MAX 32
/* Steps, which bound the verifier's work. A word of eight bytes takes one, the end of each part another. */
#define LINE_STEPS 43
#define FIELD_STEPS 160
#define ANSWER_STEPS 64
#define PATH_STEPS 48
#define QUERY_STEPS 44

#define GOLDEN 0x9E3779B97F4A7C15ULL
#define LOWER_CASE REPEAT(0x20)
#define VERSION_DIGITS_MAX 2 /* As sensor/templating.py: a short number near the start of a path may be a version. */
#define VERSION_DEPTH_MAX 2

enum head_mode { H_LINE, H_NAME, H_SKIPPED, H_HASHED, H_SEGMENT, H_CLASS, H_CREDENTIAL };
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
  u64 object;
  u64 number;
  u64 length; /* Content-Length. */
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
  u8 version; /* Its last digit. */
  u8 is_recalled; /* The field lines are those of the request before. */
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

static __always_inline int refuse(struct head *h) {
  h->verdict = HEAD_REFUSED;
  return 0;
}

static __always_inline int accept(struct head *h) {
  h->verdict = HEAD_DONE;
  return 0;
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

/* ---- field lines ---------------------------------------------------------------------------------------------------------------- */

#define CONTENT_WORD 0x2d746e65746e6f63ULL  /* "content-" */
#define LENGTH_WORD 0x6874676e656cULL       /* "length" */
#define TRANSFER_WORD 0x726566736e617274ULL /* "transfer" */
#define ENCODING_WORD 0x6e69646f636e652dULL /* "-encodin" */
#define CHUNKED_WORD 0x64656b6e756863ULL    /* "chunked" */

/* Past blanks, of which there may be seven; refused where there are more. */
static __always_inline u32 skip_blanks(struct head *h, u32 at) {
  u64 word = load(h, at);
  u64 other = ~(equal_bytes(word, REPEAT(' ')) | equal_bytes(word, REPEAT('\t'))) & MARKS;
  if (!other)
    refuse(h);
  return at + first_byte(other | 1ULL << 63);
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
    if (!size || h->flags & P_LENGTH) {
      refuse(h);
      return;
    }
    value = decimal(word << (64 - 8 * size) & 0x0f0f0f0f0f0f0f0fULL);
  } else {
    u64 first = word;
    word = load(h, at + 8);
    low = word & M7F;
    others = (~BETWEEN(low, '0', '9') | word) & MARKS;
    if (!others || h->flags & P_LENGTH) {
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
  h->mode = H_SKIPPED;
}

static __always_inline void read_coding(struct head *h, u32 at) {
  at = skip_blanks(h, at);
  u64 word = load(h, at);
  if (((word | LOWER_CASE) & 0xffffffffffffffULL) != CHUNKED_WORD || word >> 56 != '\r')
    refuse(h);
  h->flags |= P_CHUNKED;
  h->at = at + 7;
  h->mode = H_SKIPPED;
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
  u32 kind = find_name(name_end(V(h->name), low_bytes(word, length & 7), length));
  if (kind == N_HEADER_IGNORED) {
    h->at = at;
    h->mode = H_SKIPPED;
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
  start_value(h, from, 0);
}

/* Marks LF, VT, FF and CR. */
static __always_inline u64 line_ends(u64 word) { return BETWEEN(word & M7F, '\n', '\r') & ~word & MARKS; }

/* The value, or whole line, in hand ends before `at`, where CR LF must be. */
static __always_inline void end_hashed(struct head *h, u64 word, u32 at) {
  u32 length = at - V(h->from);
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 1, 3);
  u64 around = load(h, at - 1);
  u8 before = around;
  if ((around >> 8 & 0xffff) != 0x0a0d || (h->is_host && (before == ' ' || before == '\t')))
    refuse(h);
  if (h->is_host)
    h->host = hash;
  else
    h->profile = fold(V(h->profile), hash);
  h->at = at + 2;
  h->mode = H_LINE;
}

static __always_inline void skip_step(struct head *h, u32 at, u64 word) {
  u64 feeds = equal_bytes(word, REPEAT('\n'));
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
    return;
  }
  at += first_byte(feeds);
  if ((load(h, at - 1) & 0xff) != '\r')
    refuse(h);
  h->at = at + 1;
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
    skip_step(h, at, word);
    return;
  }
  if (mode == H_HASHED) {
    u64 ends = line_ends(word);
    if (ends) {
      end_hashed(h, word, at + first_byte(ends));
      return;
    }
    sip_word(&h->sip, word, 1);
    h->at = at + 8;
    word = load(h, at + 8);
    if (!line_ends(word)) {
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
    if (byte == ' ' || byte == '\t') { /* A folded line. */
      refuse(h);
      return;
    }
    h->from = at;
    h->name = set->seed;
    h->mode = H_NAME;
  }
  u64 colons = equal_bytes(word, REPEAT(':'));
  if (blanks(word) & ((colons & -colons) - 1)) { /* No name: a line without a colon, or a byte that would pass for another. */
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

static __always_inline void read_fields(struct head *h, const struct settings *set) {
  h->at = V(h->fields);
  h->mode = H_LINE;
  h->verdict = HEAD_GOES_ON;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < FIELD_STEPS; i++) {
    field_step(h, set);
    if (V(h->verdict))
      break;
  }
  if (V(h->verdict) != HEAD_DONE || !V(h->has_host))
    refuse(h);
}

/* ---- response heads ------------------------------------------------------------------------------------------------------------- */

/* Only status and framing are wanted of them, so lines are skipped but for two names. Ends of lines and of the head are the machine's. */
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

/* ---- the path ------------------------------------------------------------------------------------------------------------------- */

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

/* As find_shape() of sensor/kernel/hashes.py. */
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

/* ---- the query ------------------------------------------------------------------------------------------------------------------ */

/* Marks the bytes of a value that need a closer look: not letters, digits or plain marks. */
static __always_inline u64 odd_bytes(u64 word) {
  u64 low = word & M7F;
  u64 plain = AT_LEAST(low, 0x21) & ~BETWEEN(low, '"', '\'') & ~BETWEEN(low, ';', '>') & ~AT_LEAST(low, '{') & ~word;
  return ~plain & MARKS;
}

/* Escapes of quotes, angle brackets, semicolon, dollar, brace and dot. */
static __always_inline int is_suspicious_escape(u8 high, u8 low) {
  low |= 0x20;
  if (high == '2')
    return low == '2' || low == '4' || low == '7' || low == 'e';
  if (high == '3')
    return low == 'b' || low == 'c' || low == 'e';
  return high == '7' && low == 'b';
}

/* What is at an odd byte of a value that is skipped. */
static __always_inline void see_odd(struct head *h, u64 word) {
  u8 byte = word, next = word >> 8;
  if (byte == '%') {
    if (is_suspicious_escape(next, word >> 16))
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

static __always_inline void query_step(struct head *h, const struct settings *set) {
  u32 at = V(h->at), from = V(h->from), target_end = V(h->target_end);
  u8 mode = V(h->mode);
  u64 word = load(h, at);
  if (at > target_end) {
    refuse(h);
    return;
  }
  if (mode == H_SKIPPED) {
    u64 dots = equal_bytes(word, REPEAT('.'));
    if (dots & equal_bytes(load(h, at + 1), REPEAT('.')) & equal_bytes(load(h, at + 2), REPEAT('/')))
      h->is_suspicious = 1;
    u64 odd = odd_bytes(word);
    if (!odd) {
      h->at = at + 8;
      return;
    }
    at += first_byte(odd);
    u8 byte = load(h, at);
    if (byte == '&' || (byte == ' ' && at == target_end)) {
      end_pair(h, set, at, byte);
      return;
    }
    see_odd(h, load(h, at));
    h->at = at + 1;
    return;
  }
  u64 ends = equal_bytes(word, REPEAT('&')) | equal_bytes(word, REPEAT(' '));
  if (mode == H_CREDENTIAL) {
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
  if (blanks(word) & ((ends & -ends) - 1)) {
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
  if (kind != N_QUERY_IGNORED)
    h->is_unknown = 1;
  u8 byte = load(h, at);
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
