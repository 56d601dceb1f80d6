/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the connections of a server carried and no call explains, by client: who hides calls from the sensor shows here. Answers are counted
 * too: a server that answers what was not read got a request there.
 *
 * A connection that was open before the sensor looked begins in the middle of a call: its first answer says nothing. Nor does one by which
 * a server refuses what it cannot read either (sensor/coverage/unread.py, REFUSALS).
 *
 * `walk` adds to sums in the connection, without a branch. The connection's next packet, or its end, puts them into the map.
 */
#ifndef APIDAE_UNREAD_H
#define APIDAE_UNREAD_H

#define PASS 1

#include "packet.h"
#include "ports.h"
#include "walk.h"

/* What: bytes and answers of no call, by client of a port. Life: the least recent is evicted; the sensor adds up what it read. */
BPF_TABLE("lru_hash", struct unread_key, struct unread_count, unread, 4096);

/* Notes what a step begins with. */
static __always_inline void look_before(const struct conn *c, struct flow *f) {
  struct before_step b = {
      .offset = V(f->offset), .untold = V(c->untold), .state = V(f->parse.state), .kind = V(c->kind), .tries = V(c->tries)};
  f->before = b;
}

static __always_inline void add_unread(struct conn *c, u32 reason, u64 calls, u64 bytes) {
  c->unread[reason].calls += calls;
  c->unread[reason].bytes += bytes;
  c->is_unread |= calls | bytes;
}

/* 1: the server took the request for one. */
static __always_inline u64 is_answered(u64 status) {
  return is_zero(is_zero(status ^ 400) | is_zero(status ^ 408) | is_zero(status ^ 414) | is_zero(status ^ 431) | is_zero(status ^ 505));
}

/* What a step skipped, and whether it read the head of an answer to nothing (end_response_head), an answer without one, or the end of one
 * whose call is counted and not read (end_response). */
static __always_inline void note_step(struct conn *c, const struct flow *f, u32 direction) {
  const struct before_step *b = &f->before;
  u64 is_lost = is_zero(V(f->parse.state) ^ S_LOST), is_answer = direction & 1; /* EGRESS. */
  u64 is_tried = 1 - is_zero(V(c->tries) ^ V(b->tries)), is_new = is_zero(V(b->kind) ^ K_NEW);
  u64 bytes = V(f->offset) - V(b->offset);
  u64 is_asked = 1 - is_answer;
  u64 is_orphan = is_lost & is_answer & (1 - is_zero(V(b->state) ^ S_LOST)) & V(f->parse.flags) /* P_CONFIRMED */ & is_zero(V(f->is_active)) &
                  is_answered(V(f->parse.status));
  u64 is_begun = is_new & (1 - is_zero(V(b->tries))); /* By something that is no request. */
  add_unread(c, UNREAD_NOT_HTTP, (is_tried & is_answer & is_begun) | (is_orphan & is_begun), bytes & -(is_tried & is_asked));
  u64 ended = (V(c->untold) - V(b->untold)) * is_answer * is_answered(V(f->parse.status));
  add_unread(c, UNREAD_POSITION, ended + (is_orphan & is_zero(is_begun | (is_new & V(c->is_late)))), bytes & -(is_lost & is_asked));
}

/* At the start of a segment behind a lost position: whether another answer begins here. */
static __always_inline void note_answer(struct __sk_buff *skb, struct conn *c, const struct flow *f) {
  u64 words[2] = {};
  if (V(f->parse.state) != S_LOST || !V(f->is_response))
    return;
  if (bpf_skb_load_bytes(skb, V(f->offset), words, 12) < 0)
    return;
  u64 digits = words[1] >> 8, status = (digits & 15) * 100 + (digits >> 8 & 15) * 10 + (digits >> 16 & 15);
  add_unread(c, UNREAD_POSITION, is_zero((words[0] & 0xffffffffffffffULL) ^ HTTP1_WORD) & is_answered(status), 0);
}

static __always_inline void put_unread(struct unread_key *key, struct conn *c, const u32 reason) {
  u64 calls = V(c->unread[reason].calls), bytes = V(c->unread[reason].bytes);
  if (!(calls | bytes))
    return;
  c->unread[reason].calls = c->unread[reason].bytes = 0;
  key->reason = reason;
  struct unread_count *sum = unread.lookup(key);
  if (!sum) {
    struct unread_count zero = {};
    unread.insert(key, &zero);
    sum = unread.lookup(key);
  }
  if (!sum)
    return;
  __sync_fetch_and_add(&sum->calls, calls);
  __sync_fetch_and_add(&sum->bytes, bytes);
}

/* Puts what is unread of the packet's connection into the map. Nothing of a client's end on this node: its server may be anywhere. */
static __always_inline void flush_unread(struct __sk_buff *skb, struct conn *c, u32 direction) {
  if (!V(c->is_unread))
    return;
  c->is_unread = 0;
  if (c->kind == K_HTTP ? c->request_direction != INGRESS : !is_listening(c->local_port))
    return;
  struct unread_key key = {.cgroup_id = c->cgroup_id, .port = c->local_port};
  u8 server[16] = {};
  if (direction == INGRESS)
    key.family = read_addresses(skb, key.address, server);
  else
    key.family = read_addresses(skb, server, key.address);
  put_unread(&key, c, UNREAD_POSITION);
  put_unread(&key, c, UNREAD_SEGMENT);
  put_unread(&key, c, UNREAD_NOT_HTTP);
  put_unread(&key, c, UNREAD_HEAD);
  count(C_UNREAD);
}

/* Calls the packet's first program once more, which is `runs` tail calls from its start. */
static __always_inline void enter_again(struct __sk_buff *skb, u32 direction, u32 runs) {
  skb->cb[1] = runs;
  if (direction == INGRESS)
    programs.call(skb, PROGRAM_INGRESS);
  else
    programs.call(skb, PROGRAM_EGRESS);
  count(C_TAIL_FAILED);
}

static __always_inline void call_report_unread(struct __sk_buff *skb, u32 direction, u32 runs) {
  skb->cb[0] = direction + 1;
  skb->cb[1] = runs + 1;
  programs.call(skb, PROGRAM_REPORT_UNREAD);
}

/* A program of its own, since few packets need it: the verifier would follow all that comes behind for each of its ways. */
static __always_inline int report_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1;
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  if (c)
    flush_unread(skb, c, direction);
  enter_again(skb, direction, skb->cb[1] + 1);
  return PASS;
}

#endif
