/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Walks the HTTP/1 table (sensor/ebpf/http1_states.py, which also names the states and actions through -D flags) over bytes.
 *
 * Pure: no helpers, no maps, so that the tests compile the same file in user space. All results live in memory and are read back
 * through V(): neither clang nor the verifier then carries what it knows of one step into the next, and the loop stays cheap to
 * verify.
 */
#ifndef APIDAE_HTTP_MACHINE_H
#define APIDAE_HTTP_MACHINE_H

#define WINDOW 128 /* Bytes looked at in one walk; a power of two. */

/* What an action does, without branches. */
struct effect {
  u8 length_factor, length_mask;
  u8 status_factor, status_mask;
  u8 flags;
  u8 is_stop;
  u8 conflict; /* Flags that must not have been set before. */
  u8 _pad;
};

struct machine {
  u8 byte_class[256];
  u8 digit[256];
  struct effect effects[ACTIONS_MAX];
  u16 next[STATES_MAX << CLASS_BITS];
};

/* Where a direction stands in its message. */
struct parse {
  u64 length;     /* Content-Length or chunk size as read so far. */
  u32 head_bytes; /* Bytes of the message up to here that the machine has seen. */
  u32 at;         /* In the window. */
  u32 end;        /* Bytes in the window. */
  u16 status;
  u8 state;
  u8 action; /* That stopped the machine; 0: none. */
  u8 flags;
  u8 _pad[7];
};

#define LENGTH_MAX (1ULL << 60) /* Past it a Content-Length is nonsense: the body is taken to last as long as the connection. */

#define V(x) (*(volatile typeof(x) *)&(x))
#define M7F 0x7f7f7f7f7f7f7f7fULL
#define REPEAT(c) (0x0101010101010101ULL * (u8)(c))

/* 0x80 in each byte of `word` that equals the repeated byte, exactly (no carries between bytes). */
static __always_inline u64 equal_bytes(u64 word, u64 repeated) {
  u64 x = word ^ repeated;
  return ~(((x & M7F) + M7F) | x | M7F);
}

/* Index of the first marked byte; `mask` is not 0. */
static __always_inline u32 first_byte(u64 mask) {
  mask &= -mask;
  return ((mask >> 7) * 0x0001020304050607ULL) >> 56;
}

/* 0x80 in each byte that is a control character, a space or DEL: what no target holds. */
static __always_inline u64 unseen_marks(u64 word) {
  return (~((word & M7F) + REPEAT(0x80 - 0x21)) & ~word & REPEAT(0x80)) | equal_bytes(word, REPEAT(0x7f));
}

static __always_inline void parse_start(struct parse *p, u8 state) {
  p->length = 0;
  p->head_bytes = 0;
  p->status = 0;
  p->flags = 0;
  p->action = 0;
  p->state = state;
}

/* 1 where a < b, else 0, of numbers below 2^63; without a branch, which clang makes of a comparison wherever it sees one. */
static __always_inline u64 is_below(u64 a, u64 b) {
  asm volatile("" : "+r"(a), "+r"(b));
  u64 is = (a - b) >> 63;
  asm volatile("" : "+r"(is));
  return is;
}

/* 1 where a bit is set, else 0; 1 where none is. A comparison with 0, or `!`, would be a branch. */
static __always_inline u64 is_set(u64 value) {
  asm volatile("" : "+r"(value));
  u64 is = value | -value;
  asm volatile("" : "+r"(is));
  is >>= 63;
  asm volatile("" : "+r"(is));
  return is;
}
static __always_inline u64 is_zero(u64 value) { return is_set(value) ^ 1; }

/* `value` where `is` is 1, `other` where it is 0. */
static __always_inline u64 choose(u64 is, u64 value, u64 other) { return other ^ ((value ^ other) & -is); }

/* Bytes from `at` on that do not matter in a state that skips: to the line's end, in a target to its end, or seven. */
static __always_inline u32 count_skipped(const u8 *bytes, u32 at, u64 is_target) {
  u64 word = *(const u64 *)(bytes + (at & (WINDOW - 1)));
  u64 ends = equal_bytes(word, REPEAT('\n')) | equal_bytes(word, REPEAT('\r'));
  ends |= unseen_marks(word) & -is_target;
  return first_byte(ends | 1ULL << 63);
}

/* What an action does; 0 does nothing. */
static __always_inline void machine_act(const struct machine *m, struct parse *p, u8 byte, u8 action) {
  const struct effect *e = &m->effects[action & (ACTIONS_MAX - 1)];
  u64 digit = m->digit[byte], length = V(p->length);
  u64 is_full = ((length >> 56) + 255) >> 8; /* 1 from 2^56 on, without a branch. */
  p->length = (length * e->length_factor + (digit & e->length_mask)) | is_full << 60;
  p->status = V(p->status) * e->status_factor + (digit & e->status_mask);
  u32 flags = V(p->flags);
  p->flags = flags | e->flags | (((flags & e->conflict) + 255) >> 8) * P_AMBIGUOUS;
  p->action = action * e->is_stop;
}

_Static_assert(S_TARGET == 3 && S_SKIPPING_LAST == 3, "of the skipping states, S_TARGET has both low bits");

/* Takes the next byte of the window, or up to seven that do not matter and the one after; `bytes` has 8 readable bytes after the window.
 * 0: the window is used up. */
static __always_inline int machine_step(const struct machine *m, struct parse *p, const u8 *bytes) {
  u32 at = V(p->at), state = V(p->state);
  if (state - 1 < S_SKIPPING_LAST) {
    p->at = at + count_skipped(bytes, at, state & state >> 1); /* 1 for S_TARGET alone. No branch: the verifier would follow both. */
  }
  at = V(p->at);
  if (at >= V(p->end))
    return 0;
  at &= WINDOW - 1;
  u8 byte = bytes[at];
  u32 entry = m->next[(state & (STATES_MAX - 1)) << CLASS_BITS | (m->byte_class[byte] & ((1 << CLASS_BITS) - 1))];
  u8 action = entry >> 8;
  p->state = entry;
  p->at = at + 1;
  if (action)
    machine_act(m, p, byte, action);
  return 1;
}

/* The same without a branch, so that the verifier follows one path through many steps; nothing happens at the window's end, nor once an
 * action has stopped the machine. */
static __always_inline void machine_glide(const struct machine *m, struct parse *p, const u8 *bytes) {
  u32 at = V(p->at), state = V(p->state), end = V(p->end), stopped = V(p->action);
  u64 is_on = is_below(at, end) & is_below(stopped, 1);
  at += count_skipped(bytes, at, is_below(state ^ S_TARGET, 1)) * (is_below((u32)(state - 1), S_SKIPPING_LAST) & is_on);
  is_on &= is_below(at, end);
  u8 byte = bytes[at & (WINDOW - 1)];
  u32 entry = m->next[(state & (STATES_MAX - 1)) << CLASS_BITS | (m->byte_class[byte] & ((1 << CLASS_BITS) - 1))];
  p->state = state + ((entry & 0xff) - state) * is_on;
  p->at = at + is_on;
  machine_act(m, p, byte, (entry >> 8) * is_on);
  p->action = V(p->action) + stopped;
}

/* Ends a window of which all was stepped through or an action stopped; gives the bytes consumed (a skip may pass the end). */
static __always_inline u32 machine_consume(struct parse *p) {
  u32 at = V(p->at), end = V(p->end);
  at = choose(is_below(end, at), end, at);
  p->head_bytes += at;
  p->at = 0;
  p->end = 0;
  return at;
}

#endif
