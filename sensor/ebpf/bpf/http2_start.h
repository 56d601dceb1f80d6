/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How a connection is found to speak HTTP/2 (by the client's preface, by frames behind a 101, or by frames of something older than the
 * sensor), which of its two ends on this node tells of it, and the way of its packets to the programs that follow them.
 */
#ifndef APIDAE_HTTP2_START_H
#define APIDAE_HTTP2_START_H

#include "walk.h"
#include "http2_signs.h"

#define FRAME_LOOKS_MAX 16 /* Packets of a connection that are looked at for frames. */
#define AFTER_UPGRADE 0xfffffffe /* A run: what lies behind a 101 in its packet may be HTTP/2. */
#define AFTER_MATCH 0xfffffffd   /* A run: the first, in a direction that is held. */
#define SIGNS_ENOUGH 2     /* Packets of one whole frame each; of HEADERS one is enough. */

/* Bytes of the connection that lie between its first and this packet, which is the first seen of it; 0 also where the sensor came late.
 * `*is_fresh`: nothing was received before. */
static __always_inline u32 find_missing(struct bpf_sock *sk, u32 sequence, int *is_fresh) {
  struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
  *is_fresh = 0;
  if (!tcp || tcp->bytes_received)
    return 0;
  *is_fresh = 1;
  s32 missing = sequence - tcp->rcv_nxt;
  return missing > 0 ? missing : 0;
}

/* 1: the connection's first segment is late, so this one waits for it as behind any hole. */
static __always_inline int await_first(struct bpf_sock *sk, struct conn *c, struct flow *f, const struct packet *p) {
  int is_fresh;
  u32 missing = find_missing(sk, p->sequence, &is_fresh);
  if (!missing)
    return 0;
  f->next = p->sequence - missing;
  f->high = p->sequence + p->length;
  f->waiting = 1;
  f->filling = 0;
  f->parse.state = S_NONE;
  c->last_direction = 0;
  return 1;
}

static __always_inline int is_listened(u32 port) {
  u8 *value = listening.lookup(&port);
  return value && *value;
}

/* The two ends of a connection on one node find each other, as those of HTTP/1 do (walk.h). 1: the other end tells. */
static __always_inline int leave_streams(struct __sk_buff *skb, struct conn *c, u64 key, u32 direction) {
  if (!key)
    return 0; /* HTTP/1 has done it. */
  if (c->stream_flags & S_CLIENT_EGRESS) {
    struct client_end own = {.cgroup_id = c->cgroup_id, .connection = c->id};
    clients.update(&key, &own);
    if (is_local_client(skb, direction))
      return 1;
  }
  if (c->stream_flags & S_CLIENT_INGRESS && !c->is_lookup_done) {
    u8 one = 1;
    servers.update(&key, &one);
    struct client_end *peer = clients.lookup(&key);
    if (peer)
      c->peer_cgroup_id = peer->cgroup_id;
    c->is_lookup_done = 1;
  }
  return 0;
}

static __always_inline void begin_streams(struct __sk_buff *skb, struct conn *c, u8 flags, u64 key, u32 direction) {
  c->stream_flags = flags;
  c->kind = K_HTTP2;
  if (!leave_streams(skb, c, key, direction))
    return;
  c->kind = K_LOCAL_CLIENT;
}

/* Joined in the middle, the client is known by the port that is listened on, where it is known at all. */
static __always_inline u8 guess_client(const struct conn *c) {
  if (is_listened(c->local_port))
    return S_CLIENT_INGRESS;
  return is_listened(c->remote_port) ? S_CLIENT_EGRESS : 0;
}

/* Looks for HTTP/2 in a packet of a connection that is not known yet. 1: nothing else shall read it. */
static __always_inline int find_http2(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, const struct packet *p,
                                      u32 direction) {
  u32 before = f->preface, matched = match_preface(skb, V(f->offset), before);
  if (before + matched >= PREFACE_ENOUGH && matched) {
    begin_streams(skb, c, direction == INGRESS ? S_CLIENT_INGRESS : S_CLIENT_EGRESS, p->key, direction);
    return 1;
  }
  f->preface = matched ? before + matched : 0;
  if (matched || c->frame_looks >= FRAME_LOOKS_MAX || V(f->parse.state) != S_NONE)
    return 0;
  c->frame_looks++;
  u8 kind;
  u32 sign = find_frames(skb, V(f->offset), STREAM_MAX, &kind);
  if (sign < SIGN_WHOLE)
    return 0;
  int is_fresh = 0;
  u32 missing = direction == INGRESS ? find_missing(sk, p->sequence, &is_fresh) : 0;
  c->frame_signs++;
  if (sign == SIGN_CHAIN || kind == FRAME_HEADERS || missing || c->frame_signs >= SIGNS_ENOUGH)
    begin_streams(skb, c, guess_client(c) | (is_fresh && missing ? 0 : S_JOINED), p->key, direction);
  return 1;
}

/* After a 101 or CONNECT: the client's preface, or the server's SETTINGS. */
static __always_inline void find_upgrade(struct __sk_buff *skb, struct conn *c, u32 offset, u32 direction) {
  u8 kind = FRAME_KINDS, is_client = direction == c->request_direction;
  if (c->frame_looks >= FRAME_LOOKS_MAX)
    return;
  c->frame_looks++;
  if (is_client ? match_preface(skb, offset, 0) < (c->kind == K_HTTP ? PREFACE_ENOUGH : 1)
                : find_frames(skb, offset, STREAM_MAX, &kind) < SIGN_OPEN || kind != FRAME_SETTINGS)
    return;
  c->is_tunnel = 0;
  begin_streams(skb, c, S_UPGRADED | (c->request_direction == INGRESS ? S_CLIENT_INGRESS : S_CLIENT_EGRESS), 0, direction);
}

/* The end of a packet of HTTP/2 in this program: does not return where the next one takes over. */
static __always_inline void call_frames(struct __sk_buff *skb, u32 sequence, u32 offset, u32 direction, u32 closing, u32 run) {
  skb->cb[0] = direction + 1;
  skb->cb[1] = closing;
  skb->cb[2] = sequence;
  skb->cb[3] = offset;
  skb->cb[4] = run;
  if (!run)
    programs.call(skb, PROGRAM_MATCH_STREAMS);
  programs.call(skb, PROGRAM_FOLLOW_FRAMES);
  count(C_TAIL_FAILED);
}

static __always_inline void enter_http2(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, const struct packet *p, u32 direction) {
  u64 key = p->key;
  if (sk->state == BPF_TCP_LISTEN) { /* Its child will follow them; until then all goes up as it is. */
    skb->cb[0] = direction + 1;
    skb->cb[1] = key;
    skb->cb[2] = p->sequence;
    skb->cb[3] = p->offset;
    skb->cb[4] = key >> 32;
    programs.call(skb, PROGRAM_COPY_FRAMES);
    count(C_TAIL_FAILED);
    return;
  }
  u32 closing = p->flags & TCP_RST ? CLOSE_RESET : p->flags & TCP_FIN ? CLOSE_FIN : CLOSE_NOT;
  if (direction == INGRESS && !c->is_lookup_done) { /* A client's end: the server's has seen the request before us, if it is here. */
    c->is_lookup_done = 1;
    if (servers.lookup(&key)) {
      c->kind = K_LOCAL_CLIENT;
    }
  }
  call_frames(skb, p->sequence, p->offset, direction, closing, 0);
}

#endif
