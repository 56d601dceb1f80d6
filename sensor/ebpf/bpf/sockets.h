/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The state of a packet's connection: where it lies, how it starts, what a child socket takes over from its listener. */
#ifndef APIDAE_SOCKETS_H
#define APIDAE_SOCKETS_H

#include "conn.h"
#include "packet.h"

static __always_inline void start_conn(struct __sk_buff *skb, struct conn *c, const struct packet *p, u32 direction, u64 id) {
  c->id = id;
  c->cgroup_id = bpf_skb_cgroup_id(skb);
  c->local_port = direction == INGRESS ? p->destination_port : p->source_port;
  c->remote_port = direction == INGRESS ? p->source_port : p->destination_port;
}

static __always_inline struct conn *deferred_conn(struct __sk_buff *skb, const struct packet *p, int is_create) {
  u64 key = p->key;
  struct conn *c = deferred.lookup(&key);
  if (c || !is_create)
    return c;
  u32 zero = 0;
  struct conn *b = blank.lookup(&zero);
  if (!b)
    return 0;
  deferred.update(&key, b);
  c = deferred.lookup(&key);
  if (c)
    start_conn(skb, c, p, INGRESS, (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32());
  return c;
}

/* The state of the packet's connection; made where the packet has data. A child socket takes over what came to its listener. */
static __always_inline struct conn *find_conn(struct __sk_buff *skb, struct bpf_sock *sk, const struct packet *p, u32 direction) {
  if (sk->state == BPF_TCP_LISTEN)
    return deferred_conn(skb, p, p->length > 0);
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  if (c)
    return c;
  u64 key = p->key;
  struct conn *from = deferred.lookup(&key);
  if (from) {
    c = conns.sk_storage_get(sk, from, BPF_LOCAL_STORAGE_GET_F_CREATE); /* The kernel copies it. */
    if (!c) {
      count(C_STORAGE_FAILED);
      return 0;
    }
    c->flow[0].busy = 0;
    c->flow[1].busy = 0;
    deferred.delete(&key);
    return c;
  }
  if (!p->length)
    return 0;
  c = conns.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!c) {
    count(C_STORAGE_FAILED);
    return 0;
  }
  start_conn(skb, c, p, direction, bpf_get_socket_cookie(skb));
  struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
  c->is_late = tcp && (tcp->bytes_received || tcp->bytes_acked > 1 /* SYN */);
  return c;
}

/* Where the connection's state lies is a constant of each program: it halves what the verifier has to follow. */
static __always_inline struct conn *found_conn(struct __sk_buff *skb, struct bpf_sock *sk, const int is_deferred) {
  if (is_deferred) {
    u64 key = (u64)skb->cb[3] << 32 | skb->cb[2];
    return deferred.lookup(&key);
  }
  return conns.sk_storage_get(sk, 0, 0);
}

#endif
