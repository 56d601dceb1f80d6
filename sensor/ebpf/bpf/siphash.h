/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * SipHash (Aumasson and Bernstein, 2012), word by word, its state in memory: 2-4 for what user space hashes too (path segments), 1-3 for
 * what only the kernel does (header lines). tests/data holds vectors. Pure, as http_machine.h is.
 */
#ifndef APIDAE_SIPHASH_H
#define APIDAE_SIPHASH_H

struct sip {
  u64 v0, v1, v2, v3;
};

#define ROTATE(x, b) ((x) << (b) | (x) >> (64 - (b)))

static __always_inline void sip_rounds(struct sip *s, u64 v0, u64 v1, u64 v2, u64 v3, const int rounds) {
#pragma unroll
  for (int i = 0; i < rounds; i++) {
    v0 += v1;
    v2 += v3;
    v1 = ROTATE(v1, 13) ^ v0;
    v3 = ROTATE(v3, 16) ^ v2;
    v0 = ROTATE(v0, 32);
    v2 += v1;
    v0 += v3;
    v1 = ROTATE(v1, 17) ^ v2;
    v3 = ROTATE(v3, 21) ^ v0;
    v2 = ROTATE(v2, 32);
  }
  s->v0 = v0;
  s->v1 = v1;
  s->v2 = v2;
  s->v3 = v3;
}

static __always_inline void sip_start(struct sip *s, u64 key0, u64 key1) {
  s->v0 = key0 ^ 0x736f6d6570736575ULL;
  s->v1 = key1 ^ 0x646f72616e646f6dULL;
  s->v2 = key0 ^ 0x6c7967656e657261ULL;
  s->v3 = key1 ^ 0x7465646279746573ULL;
}

static __always_inline void sip_word(struct sip *s, u64 word, const int rounds) {
  sip_rounds(s, V(s->v0), V(s->v1), V(s->v2), V(s->v3) ^ word, rounds);
  s->v0 ^= word;
}

/* `rest` holds the last length % 8 bytes, the others 0. */
static __always_inline u64 sip_end(struct sip *s, u64 rest, u64 length, const int rounds, const int last_rounds) {
  sip_word(s, rest | length << 56, rounds);
  sip_rounds(s, V(s->v0), V(s->v1), V(s->v2) ^ 0xff, V(s->v3), last_rounds);
  return V(s->v0) ^ V(s->v1) ^ V(s->v2) ^ V(s->v3);
}

#endif
