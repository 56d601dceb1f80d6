/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The first header block of a connection of HTTP/2 (RFC 7541), looked through for blocked credentials before the program that listens can
 * read it: the literal values, as they are written, plain or Huffman coded. User space teaches the hashes of both forms. Only the first
 * block: its encoder's table is empty, so whoever shows a credential there writes it out, and nobody else is on the connection yet. Whom
 * later blocks name is user space's to read. A verdict says whether it holds here at all: not where its client was seen to share
 * connections.
 */
#ifndef APIDAE_STREAMED_H
#define APIDAE_STREAMED_H

#include "enforce.h"

#define STREAMED_STEPS 100 /* A run, of which there are as many as of `guard`. */
#define STREAMED_FRAMES 8 /* Up to the first HEADERS: SETTINGS, WINDOW_UPDATE, PRIORITY. */
#define PRIORITY_FLAG 0x20
#define PRIORITY_BYTES 5

enum streamed_mode { SM_FIELD, SM_NAME, SM_VALUE, SM_HASH };

/* Where the first header block begins, behind frames of other kinds; 0: it is not in this packet. */
static __always_inline u32 find_block(struct __sk_buff *skb, u32 offset, u32 *size) {
  u8 bytes[16] = {};
  if (match_preface(skb, offset, 0) == PREFACE_BYTES)
    offset += PREFACE_BYTES;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < STREAMED_FRAMES; i++) {
    struct frame_header h;
    if (offset + FRAME_HEADER > skb->len || bpf_skb_load_bytes(skb, offset, bytes, FRAME_HEADER) < 0)
      return 0;
    read_frame_header(bytes, &h);
    if (!is_frame(&h))
      return 0;
    offset += FRAME_HEADER;
    if (h.kind == FRAME_HEADERS) {
      u32 skipped = (h.flags & PADDED ? 1 : 0) + (h.flags & PRIORITY_FLAG ? PRIORITY_BYTES : 0);
      *size = h.length > skipped ? h.length - skipped : 0;
      return offset + skipped;
    }
    offset += h.length;
  }
  return 0;
}

/* An integer (5.1) of up to three bytes at the place in hand, and the place behind it; 0: longer, or none. */
static __always_inline int read_integer(struct head *h, u64 word, u32 mask, u32 *value) {
  u32 first = word & mask, second = word >> 8 & 0xff, third = word >> 16 & 0xff, size = 1;
  *value = first;
  if (first == mask) {
    size = second & 0x80 ? 3 : 2;
    if (second & third & 0x80)
      return 0;
    *value = mask + (second & 0x7f) + (second & 0x80 ? third << 7 : 0);
  }
  h->at = V(h->at) + size;
  return 1;
}

static __always_inline void end_value(struct head *h, u64 word, u32 left) {
  u32 length = V(h->to) - V(h->from);
  u64 hash = sip_end(&h->sip, low_bytes(word, left & 7), length, 2, 4);
  h->credential = hash ? hash : 1;
  h->at = V(h->to);
  h->mode = SM_FIELD;
  u32 *slot = blocked_credentials.lookup(&h->credential);
  if (slot) {
    h->node = *slot;
    h->verdict = HEAD_DONE;
  }
}

static __always_inline void streamed_step(struct head *h, const struct enforcement *e) {
  u32 at = V(h->at), value = 0;
  u8 mode = V(h->mode);
  u64 word = load(h, at);
  if (mode == SM_HASH) {
    u32 left = V(h->to) - at;
    if (left < 8) {
      end_value(h, word, left);
    } else {
      sip_word(&h->sip, word, 2);
      h->at = at + 8;
    }
    return;
  }
  if (at >= V(h->end)) {
    h->verdict = HEAD_DONE;
    return;
  }
  u32 byte = word & 0xff;
  u32 mask = mode != SM_FIELD || byte & 0x80 ? 0x7f : byte & 0x40 ? 0x3f : byte & 0x20 ? 0x1f : 0x0f;
  if (!read_integer(h, word, mask, &value)) {
    h->verdict = HEAD_DONE;
    return;
  }
  u32 next = V(h->at);
  if (mode == SM_FIELD) { /* Indexed, or a change of the table's size: nothing is written out. */
    u32 is_bare = byte & 0x80 || (byte & 0xe0) == 0x20;
    h->mode = is_bare ? SM_FIELD : value ? SM_VALUE : SM_NAME;
    return;
  }
  if (value > HEAD_MAX || next + value > V(h->end)) {
    h->verdict = HEAD_DONE;
    return;
  }
  if (mode == SM_NAME) {
    h->at = next + value;
    h->mode = SM_VALUE;
    return;
  }
  h->from = next;
  h->to = next + value;
  h->mode = SM_HASH;
  sip_start(&h->sip, e->sip_key[0], e->sip_key[1]);
}

/* The first header block, ready to be looked through. 0: it is not in this packet. */
static __always_inline int start_block(struct __sk_buff *skb, struct head *h, u32 offset) {
  u32 size = 0, from = find_block(skb, offset, &size);
  if (!from || !size || !load_head(skb, h, from, HEAD_MAX))
    return 0;
  if (V(h->end) > size)
    h->end = size;
  h->at = h->runs = 0;
  h->mode = SM_FIELD;
  h->verdict = HEAD_GOES_ON;
  return 1;
}

/* A run of looking for a blocked credential in it. 1: it goes on. */
static __always_inline int look_through_block(struct head *h, const struct enforcement *e) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < STREAMED_STEPS; i++) {
    if (V(h->verdict))
      break;
    streamed_step(h, e);
  }
  h->runs = V(h->runs) + 1;
  return !V(h->verdict) && V(h->runs) < GUARD_RUNS;
}

/* `skb->cb` is as in `guard`. */
static __always_inline int guard_block(struct __sk_buff *skb) {
  u32 offset = skb->cb[1], slot = 0, is_started = is_scratch_passed(skb);
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  const struct enforcement *e = find_enforcement();
  struct scratch *s = is_started ? passed_scratch(skb) : take_scratch();
  if (s && c && e && (is_started || start_block(skb, &s->head, offset))) {
    if (look_through_block(&s->head, e)) {
      pass_scratch(skb, s);
      skb->cb[2] = skb->cb[2] + 1;
      programs.call(skb, PROGRAM_GUARD_STREAMS);
      count(C_TAIL_FAILED);
    }
    slot = V(s->head.node);
  }
  if (s)
    free_scratch(s);
  if (slot && c && e && !V(c->is_spared)) {
    struct verdict *v = verdicts.lookup(&slot);
    if (v && V(v->is_streamed) && is_in_force(e, c, slot)) {
      c->stop_slot = slot;
      return stop_segment(skb, c, skb->len - offset, INGRESS, slot, STOP_CREDENTIAL);
    }
  }
  return leave_guard(skb, INGRESS);
}

#endif
