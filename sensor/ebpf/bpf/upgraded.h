/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What follows a 101 that is no HTTP/2: bytes of each direction, and messages where they are a WebSocket's (RFC 6455, section 5.2; read as
 * sensor/http/websocket.py does). Told once, at the first FIN or RST. `skb->cb`: 0: direction + 1, 1: enum closing, 2: sequence number
 * of the payload, 3: its offset, 4: runs of this packet, or AFTER_UPGRADE.
 */
#ifndef APIDAE_UPGRADED_H
#define APIDAE_UPGRADED_H

#include "packet_state.h"
#include "emit.h"
#include "http2_start.h"

#define UPGRADED_STEPS 64 /* Of a run: a byte of a header, or what the packet has of a payload. */
#define UPGRADED_RUNS 16  /* Of a packet. Past them its place is lost: some 300 frames in one packet. */
#define WEBSOCKET_FIN 0x80
#define WEBSOCKET_UNUSED 0x30 /* RSV2 and RSV3; RSV1 is compression's. */
#define WEBSOCKET_MASK_BYTES 4
#define NO_MESSAGES (~0ULL)

/* One direction. Only the holder of the connection's flow touches it, but for `bytes`. */
struct upgraded_flow {
  u64 bytes;
  u64 left;     /* Of a frame's payload and mask. */
  u64 length;   /* Of the frame, as far as its header is read. */
  u64 messages; /* Text and binary, counted at their last frame. */
  u32 next;     /* Sequence number expected. */
  u32 at;       /* Offset in the packet in hand. */
  u8 is_begun;
  u8 is_lost;   /* It is no WebSocket, or its place was lost: nothing is counted but bytes. */
  u8 first;     /* First byte of the frame's header. */
  u8 read;      /* Bytes of the header that were read: none, the first, or both that all have. */
  u8 extended;  /* Bytes of the length that are to come. */
  u8 _pad[3];
};

struct upgraded {
  struct upgraded_flow flow[2];
  u64 is_told;
};

/* What: what is counted of connections after their 101. Life: its socket's. Key: the socket. */
BPF_SK_STORAGE(upgrades, struct upgraded);

static __always_inline void call_upgraded(struct __sk_buff *skb, u32 sequence, u32 offset, u32 direction, u32 closing, u32 run) {
  skb->cb[0] = direction + 1;
  skb->cb[1] = closing;
  skb->cb[2] = sequence;
  skb->cb[3] = offset;
  skb->cb[4] = run;
  programs.call(skb, PROGRAM_UPGRADED);
  count(C_TAIL_FAILED);
}

static __always_inline void take_header_byte(struct upgraded_flow *f, u32 byte, u32 is_client) {
  u32 read = V(f->read);
  if (!read) {
    u32 opcode = byte & 15;
    f->first = byte;
    f->read = 1;
    if (byte & WEBSOCKET_UNUSED || (opcode & 7) > 2)
      f->is_lost = 1;
    return;
  }
  if (read == 1) {
    u32 length = byte & 127;
    if (byte >> 7 != is_client) /* All of the client's are masked, none of the server's. */
      f->is_lost = 1;
    f->read = 2;
    f->extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    f->length = length < 126 ? length : 0;
  } else {
    f->length = V(f->length) << 8 | byte;
    f->extended = V(f->extended) - 1;
  }
  if (V(f->extended))
    return;
  u32 first = V(f->first);
  f->left = V(f->length) + (is_client ? WEBSOCKET_MASK_BYTES : 0);
  f->messages += first & WEBSOCKET_FIN && !(first & 8);
  f->read = 0;
}

static __always_inline void read_frames(struct __sk_buff *skb, struct upgraded_flow *f, u32 is_client) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < UPGRADED_STEPS; i++) {
    u32 at = V(f->at);
    if (at >= skb->len || V(f->is_lost))
      return;
    u64 left = V(f->left);
    if (left) {
      u32 here = skb->len - at;
      u64 take = left < here ? left : here;
      f->left = left - take;
      f->at = at + take;
      continue;
    }
    u8 byte = 0;
    if (bpf_skb_load_bytes(skb, at, &byte, 1) < 0)
      return;
    f->at = at + 1;
    take_header_byte(f, byte, is_client);
  }
}

/* Puts the packet in order. 1: some of it is new, from `f->at` on. */
static __always_inline int order_upgraded(struct __sk_buff *skb, struct upgraded_flow *f, const struct flow *base) {
  u32 sequence = skb->cb[2], offset = skb->cb[3], length = skb->len - offset;
  if (!V(f->is_begun)) {
    f->is_begun = 1;
    f->next = skb->cb[4] == AFTER_UPGRADE ? sequence : base->next;
  }
  s32 ahead = sequence - V(f->next);
  if (offset >= skb->len || ahead + (s32)length <= 0)
    return 0;
  if (ahead > 0) { /* Its retransmission will be a duplicate. */
    if (V(f->left) >= (u32)ahead)
      f->left -= ahead;
    else
      f->is_lost = 1;
  } else {
    offset -= ahead;
  }
  f->bytes += ahead + (s32)length;
  f->next = sequence + length;
  f->at = offset;
  return 1;
}

static __always_inline u64 find_messages(const struct upgraded_flow *f) { return V(f->is_lost) || V(f->read) ? NO_MESSAGES : V(f->messages); }

static __always_inline void tell_upgraded(struct __sk_buff *skb, struct conn *c, struct upgraded *u) {
  if (__sync_val_compare_and_swap(&u->is_told, 0, 1))
    return;
  u32 requests = c->request_direction & 1;
  struct http_event event = {};
  event.time_ns = event.end_time_ns = bpf_ktime_get_ns();
  event.connection = c->id;
  event.cgroup_id = c->cgroup_id;
  event.peer_cgroup_id = c->peer_cgroup_id;
  event.request_bytes = u->flow[requests].bytes;
  event.response_bytes = u->flow[!requests].bytes;
  event.call = c->tail - 1;
  event.local_port = c->local_port;
  event.remote_port = c->remote_port;
  event.kind = E_UPGRADE_END;
  event.role = ROLE_SERVER + (requests == EGRESS);
  event.profile = find_messages(&u->flow[requests]);
  event.host = find_messages(&u->flow[!requests]);
  if (!put(skb, &event, 0, 0, 0))
    count(C_UPGRADES_UNTOLD);
}

static __always_inline int upgraded_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, closing = skb->cb[1], run = skb->cb[4];
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  struct upgraded *u = upgrades.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!c || !u) {
    count(C_STORAGE_FAILED);
    return PASS;
  }
  struct flow *base = &c->flow[direction];
  struct upgraded_flow *f = &u->flow[direction];
  int is_new = 1;
  if (!run || run == AFTER_UPGRADE) {
    if (!hold(base)) { /* Another CPU reads this direction. */
      f->is_lost = 1;
      if (closing)
        tell_upgraded(skb, c, u);
      return PASS;
    }
    is_new = order_upgraded(skb, f, base);
    run = 0;
  }
  if (is_new && !V(f->is_lost)) {
    read_frames(skb, f, direction == (c->request_direction & 1));
    if (V(f->at) < skb->len && !V(f->is_lost)) {
      if (run < UPGRADED_RUNS)
        call_upgraded(skb, skb->cb[2], skb->cb[3], direction, closing, run + 1);
      f->is_lost = 1;
    }
  }
  if (closing)
    tell_upgraded(skb, c, u);
  return release(base);
}

/* A packet of a connection whose upgrade was granted: it may begin HTTP/2; with its end, no HTTP/1 came. */
static __always_inline void enter_tunnel(struct __sk_buff *skb, struct conn *c, const struct packet *p, u32 direction) {
  if (p->length)
    find_upgrade(skb, c, p->offset, direction);
  else if (c->kind == K_HTTP && V(c->head) == V(c->tail))
    c->kind = K_UPGRADED;
}

/* A packet of such a connection, in this program: does not return where the next one takes over. */
static __always_inline void enter_upgraded(struct __sk_buff *skb, const struct packet *p, u32 direction) {
  u32 closing = p->flags & TCP_RST ? CLOSE_RESET : p->flags & TCP_FIN ? CLOSE_FIN : CLOSE_NOT;
  call_upgraded(skb, p->sequence, p->offset, direction, closing, 0);
}

#endif
