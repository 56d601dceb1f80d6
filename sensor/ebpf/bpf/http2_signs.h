/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What HTTP/2 looks like (RFC 9113): the client's preface, and headers of frames where nothing is known of what came before. */
#ifndef APIDAE_HTTP2_SIGNS_H
#define APIDAE_HTTP2_SIGNS_H

#include "conn.h"

#define FRAME_HEADER 9
#define PREFACE_BYTES 24
#define PREFACE_ENOUGH 14      /* "PRI * HTTP/2.0": no request of HTTP/1 begins so. */
#define GUESSED_LENGTH 16384   /* What peers send unless told otherwise (6.5.2); a guess is not believed beyond it. */
#define STREAMS_AHEAD 8192     /* As sensor/http/http2/reader.py. */
#define STREAM_MAX 0x7fffffff

enum frame_kind {
  FRAME_DATA = 0,
  FRAME_HEADERS = 1,
  FRAME_PRIORITY = 2,
  FRAME_RST_STREAM = 3,
  FRAME_SETTINGS = 4,
  FRAME_PUSH_PROMISE = 5,
  FRAME_PING = 6,
  FRAME_GOAWAY = 7,
  FRAME_WINDOW_UPDATE = 8,
  FRAME_CONTINUATION = 9,
  FRAME_KINDS = 10,
  FRAME_PASSED_OVER = 0xff, /* None that exists, so a reader skips it. */
};

#define END_STREAM 1
#define PADDED 8
#define OF_KINDS(a, b, c, d, e, f) (1 << (a) | 1 << (b) | 1 << (c) | 1 << (d) | 1 << (e) | 1 << (f))
/* Kinds whose payload is read. */
#define COPIED_KINDS OF_KINDS(FRAME_HEADERS, FRAME_RST_STREAM, FRAME_SETTINGS, FRAME_PUSH_PROMISE, FRAME_GOAWAY, FRAME_CONTINUATION)
/* Kinds that stand on a stream; SETTINGS, PING and GOAWAY stand on none, WINDOW_UPDATE on either. */
#define STREAM_KINDS \
  (OF_KINDS(FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_PUSH_PROMISE, FRAME_CONTINUATION))
#define CONNECTION_KINDS (1 << FRAME_SETTINGS | 1 << FRAME_PING | 1 << FRAME_GOAWAY)

struct frame_header {
  u32 length;
  u32 stream;
  u8 kind;
  u8 flags;
};

static __always_inline void read_frame_header(const u8 *bytes, struct frame_header *h) {
  h->length = (u32)bytes[0] << 16 | (u32)bytes[1] << 8 | bytes[2];
  h->kind = bytes[3];
  h->flags = bytes[4];
  h->stream = ((u32)bytes[5] << 24 | (u32)bytes[6] << 16 | (u32)bytes[7] << 8 | bytes[8]) & STREAM_MAX;
}

/* What no peer would accept is no frame; an extension is one, and skipped (4.1). */
static __always_inline int is_frame(const struct frame_header *h) {
  u64 bit = is_below(h->kind, FRAME_KINDS) << (h->kind & 15);
  return is_zero(bit & choose(is_set(h->stream), CONNECTION_KINDS, STREAM_KINDS));
}

#define BY_KIND(kind, bits, value) ((u64)(value) << (kind) * (bits))
/* Flags that a kind may have, six bits each. */
#define FLAGS_OF_KINDS \
  (BY_KIND(FRAME_DATA, 6, 0x09) | BY_KIND(FRAME_HEADERS, 6, 0x2d) | BY_KIND(FRAME_SETTINGS, 6, 0x01) | \
   BY_KIND(FRAME_PUSH_PROMISE, 6, 0x0c) | BY_KIND(FRAME_PING, 6, 0x01) | BY_KIND(FRAME_CONTINUATION, 6, 0x04))
/* Least bytes of its payload, four bits each, */
#define LEAST_OF_KINDS \
  (BY_KIND(FRAME_HEADERS, 4, 1) | BY_KIND(FRAME_PRIORITY, 4, 5) | BY_KIND(FRAME_RST_STREAM, 4, 4) | BY_KIND(FRAME_PUSH_PROMISE, 4, 4) | \
   BY_KIND(FRAME_PING, 4, 8) | BY_KIND(FRAME_GOAWAY, 4, 8) | BY_KIND(FRAME_WINDOW_UPDATE, 4, 4) | BY_KIND(FRAME_CONTINUATION, 4, 1))
/* which are the most too, of these, and otherwise: */
#define FIXED_KINDS (1 << FRAME_PRIORITY | 1 << FRAME_RST_STREAM | 1 << FRAME_PING | 1 << FRAME_WINDOW_UPDATE)
#define SETTING_BYTES 6
#define SETTINGS_MOST (20 * SETTING_BYTES)
#define GOAWAY_MOST 1024

/* Whether nine bytes that need not be a header look like one. Without branches. */
static __always_inline int is_plausible(const struct frame_header *h, u32 max_stream) {
  u64 length = h->length, flags = h->flags, stream = h->stream, is_known = is_below(h->kind, FRAME_KINDS);
  u64 kind = h->kind & -is_known, least = LEAST_OF_KINDS >> kind * 4 & 15, is_settings = is_zero(kind ^ FRAME_SETTINGS);
  u64 most = choose(is_set(1 << kind & FIXED_KINDS), least, GUESSED_LENGTH);
  most = choose(is_settings, SETTINGS_MOST, choose(is_zero(kind ^ FRAME_GOAWAY), GOAWAY_MOST, most));
  u64 is_wrong = is_set(stream) & (is_below(max_stream, stream) | (~stream & 1));
  is_wrong |= is_below(length, least) | is_below(most, length) | is_set(flags & ~(FLAGS_OF_KINDS >> kind * 6 & 0x3f));
  is_wrong |= is_settings & (is_set(length % SETTING_BYTES) | (is_set(flags) & is_set(length)));
  return is_known & (is_wrong ^ 1) & is_frame(h);
}

enum frame_sign {
  SIGN_NONE = 0,
  SIGN_OPEN = 1,  /* A header; its frame goes on past the packet. */
  SIGN_WHOLE = 2, /* A frame that ends where the packet ends. */
  SIGN_CHAIN = 3, /* A frame, and behind it another header. */
};

/* What the packet holds from `offset` on; `first_kind`: of the first frame. */
static __always_inline u32 find_frames(struct __sk_buff *skb, u32 offset, u32 max_stream, u8 *first_kind) {
  u8 bytes[16] = {};
  struct frame_header h;
  if (offset + FRAME_HEADER > skb->len || bpf_skb_load_bytes(skb, offset, bytes, FRAME_HEADER) < 0)
    return SIGN_NONE;
  read_frame_header(bytes, &h);
  if (!is_plausible(&h, max_stream))
    return SIGN_NONE;
  *first_kind = h.kind;
  u32 next = offset + FRAME_HEADER + h.length;
  if (next == skb->len)
    return SIGN_WHOLE;
  if (next + FRAME_HEADER > skb->len)
    return SIGN_OPEN;
  if (bpf_skb_load_bytes(skb, next, bytes, FRAME_HEADER) < 0)
    return SIGN_NONE;
  read_frame_header(bytes, &h);
  return is_plausible(&h, max_stream) ? SIGN_CHAIN : SIGN_NONE;
}

/* Bytes of the preface that the packet has from `offset` on, behind the `before` that came earlier; 0: it goes on with something else. */
static __always_inline u32 match_preface(struct __sk_buff *skb, u32 offset, u32 before) {
  /* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", written out because a program has no constants in memory; the packet's bytes replace theirs. */
  u64 got[8] = {0x5448202a20495250ULL, 0x0a0d302e322f5054ULL, 0x0a0d0a0d4d530a0dULL};
  u32 n = skb->len - offset;
  if (before >= PREFACE_BYTES)
    return 0;
  if (n > PREFACE_BYTES - before)
    n = PREFACE_BYTES - before;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & 31) + 1;
  if (n > PREFACE_BYTES || bpf_skb_load_bytes(skb, offset, (u8 *)got + (before & 31), n) < 0)
    return 0;
  u64 differing = (V(got[0]) ^ 0x5448202a20495250ULL) | (V(got[1]) ^ 0x0a0d302e322f5054ULL) | (V(got[2]) ^ 0x0a0d0a0d4d530a0dULL);
  return differing ? 0 : n;
}

#endif
