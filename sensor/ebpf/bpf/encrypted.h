/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Encrypted connections (TLS records, RFC 8446 5.1): which end is the client, the first bytes of some (budgeted), and how often the server
 * spoke after the client had asked, which estimates the calls nobody can read.
 */
#ifndef APIDAE_ENCRYPTED_H
#define APIDAE_ENCRYPTED_H

#include "packet_state.h"
#include "call_events.h"
#include "waits.h"

#define HELLO_COPY 2048
#define TLS_HEADER 5
#define RECORDS_MAX 4 /* Records of a segment that are looked at. */

enum tls_record { TLS_CHANGE_CIPHER = 0x14, TLS_ALERT = 0x15, TLS_HANDSHAKE = 0x16, TLS_DATA = 0x17 };
enum tls_flag {
  TLS_OPEN = 1, /* The client's handshake is over. */
  TLS_13 = 2,   /* Its end was disguised as data, as TLS 1.3 does. */
};

/* Lengths of records that carry no request. TLS 1.3 adds 17 bytes to: an alert (2), a key update (5), HTTP/2's acknowledged settings (9),
 * window update or reset (13), ping or goaway (17). */
#define CONTROL_13 (1ULL << 19 | 1ULL << 22 | 1ULL << 26 | 1ULL << 30 | 1ULL << 34)
/* TLS 1.2 adds 24 (AES-GCM) or 16 (ChaCha20). */
#define CONTROL_12 (1ULL << 33 | 1ULL << 37 | 1ULL << 41 | 1ULL << 25 | 1ULL << 29)
/* The client's last handshake message in TLS 1.3 (RFC 8446 4.4.4) with a hash of 32 or 48 bytes. */
#define FINISHED_32 53
#define FINISHED_48 69

struct hello_key {
  u64 cgroup_id;
  u64 end; /* The listening port, or the other host's address and port, mixed. */
};

/* What: when the next handshake of a cgroup and end may go up. Life: the least recent is evicted, and then may at once. */
BPF_TABLE("lru_hash", struct hello_key, u64, hello_times, 4096);

/* Is there anything for `encrypted` to do with this segment? Counts the server's turns by the way, and when a client that is timed spoke
 * last. */
static __always_inline int is_encrypted_due(struct conn *c, struct flow *f, const struct packet *p, u32 direction) {
  u32 end = p->sequence + p->length, is_due = p->flags & (TCP_FIN | TCP_RST) || f->unflushed > PORT_FLUSH_BYTES;
  if (!p->length || (f->seen && (s32)(end - f->next) <= 0))
    return is_due; /* A retransmission, or nothing but an end. */
  f->seen = 1;
  f->next = end;
  if (!c->is_answered)
    return 1;
  if (direction == c->request_direction) {
    if (c->is_pending && c->asked_ns)
      c->asked_ns = bpf_ktime_get_ns();
    return is_due || (!c->is_pending && !c->is_websocket);
  }
  c->is_spoken = c->tls_flags;
  if (c->is_pending) {
    c->is_pending = 0;
    c->exchanges++;
    is_due |= c->asked_ns != 0;
  }
  return is_due || c->exchanges >= PORT_FLUSH_CALLS;
}

static __always_inline void call_encrypted(struct __sk_buff *skb, const struct packet *p, u32 direction) {
  skb->cb[0] = direction + 1;
  skb->cb[1] = p->flags & TCP_RST ? CLOSE_RESET : p->flags & TCP_FIN ? CLOSE_FIN : CLOSE_NOT;
  skb->cb[2] = p->key;
  skb->cb[3] = p->key >> 32;
  skb->cb[4] = p->offset;
  programs.call(skb, PROGRAM_ENCRYPTED);
}

/* 1: a record of this client's segment carries more than the handshake and HTTP/2's own talk. */
static __always_inline int carries_request(struct __sk_buff *skb, struct conn *c, u32 offset) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < RECORDS_MAX; i++) {
    u8 head[TLS_HEADER];
    if (offset >= skb->len || bpf_skb_load_bytes(skb, offset, head, TLS_HEADER) < 0)
      return 0;
    u32 length = head[3] << 8 | head[4], type = head[0];
    if (type < TLS_CHANGE_CIPHER || type > TLS_DATA || head[1] != 3)
      return c->tls_flags & TLS_OPEN; /* Within a record. */
    offset += TLS_HEADER + length;
    if (type != TLS_DATA)
      continue;
    if (!(c->tls_flags & TLS_OPEN)) {
      c->tls_flags |= TLS_OPEN;
      if (length == FINISHED_32 || length == FINISHED_48) {
        c->tls_flags |= TLS_13;
        continue;
      }
    }
    u64 control = c->tls_flags & TLS_13 ? CONTROL_13 : CONTROL_12;
    if (length > 63 || !(control >> length & 1))
      return 1;
  }
  return 0;
}

static __always_inline void read_peer(struct __sk_buff *skb, const struct conn *c, u32 direction, struct peer_key *key) {
  u8 local[16] = {};
  key->cgroup_id = c->cgroup_id;
  key->port = c->remote_port;
  key->kind = K_ENCRYPTED;
  if (direction == EGRESS)
    key->family = read_addresses(skb, local, key->address);
  else
    key->family = read_addresses(skb, key->address, local);
}

/* The first handshake of each (cgroup, end, second) goes up, within the cgroup's budget of heads. */
static __always_inline int may_tell_hello(const struct conn *c, const struct peer_key *peer, u64 now) {
  struct hello_key key = {.cgroup_id = c->cgroup_id, .end = c->local_port};
  if (c->request_direction == EGRESS) {
    const u64 *address = (const u64 *)peer->address;
    key.end = mix(mix(c->remote_port, address[0]), address[1]);
  }
  u64 *next = hello_times.lookup(&key), after = now + SECOND_NS;
  if (next && *next > now)
    return 0;
  hello_times.update(&key, &after);
  const struct settings *set = find_settings();
  if (set && V(set->is_recognising) && !take_head(set, c->cgroup_id, 0, BUDGET_PARTS, now)) {
    count(C_HELLOS_REFUSED);
    return 0;
  }
  count(C_HELLOS);
  return 1;
}

static __always_inline void tell_hello(struct __sk_buff *skb, const struct conn *c, const u8 kind, u32 offset, u64 now) {
  struct http_event e = {};
  u32 size = skb->len - offset;
  e.kind = kind;
  e.time_ns = now;
  e.connection = c->id;
  e.cgroup_id = c->cgroup_id;
  e.local_port = c->local_port;
  e.remote_port = c->remote_port;
  e.role = c->request_direction == INGRESS ? ROLE_SERVER : ROLE_CLIENT;
  if (is_egress(skb))
    e.family = read_addresses(skb, e.local_address, e.remote_address);
  else
    e.family = read_addresses(skb, e.remote_address, e.local_address);
  if (size > HELLO_COPY) {
    size = HELLO_COPY;
    e.flags = F_TRUNCATED;
  }
  if (!put(skb, &e, offset, size, HELLO_COPY))
    count(C_EVENTS_LOST);
}

/* The server's end of this connection is seen on this node. */
static __always_inline void note_server(u64 key) {
  u8 one = 1;
  servers.update(&key, &one);
}

#define NOT_COUNTED 1 /* The server's end on this node is. */
#define UNDECIDED 2 /* Which end this is, until the sensor has said which ports are listened on. */

/* 0: this end is counted. */
static __always_inline int take_hello(struct __sk_buff *skb, struct conn *c, const struct peer_key *peer, u32 direction, u64 now) {
  u8 head[6] = {};
  u32 offset = skb->cb[4];
  u64 key = (u64)skb->cb[3] << 32 | skb->cb[2];
  if (bpf_skb_load_bytes(skb, offset, head, 6) < 0 || head[0] != TLS_HANDSHAKE)
    head[5] = 0; /* In the middle of a connection. */
  if (head[5] == 1 && !c->is_client_known) {
    if (is_local_client(skb, direction))
      return NOT_COUNTED;
    c->is_client_known = 1;
    c->request_direction = direction;
    if (direction == INGRESS)
      note_server(key);
    c->is_hello_told = may_tell_hello(c, peer, now);
    if (c->is_hello_told)
      tell_hello(skb, c, E_CLIENT_HELLO, offset, now);
    return 0;
  }
  if (!c->is_client_known) {
    if (head[5] != 2 && !is_listening(0))
      return UNDECIDED;
    /* Who sends a server's hello is the server: its client's came to the listening socket, where nobody looked. */
    u32 is_server = head[5] == 2 ? direction == EGRESS : is_listening(c->local_port);
    c->request_direction = is_server ? INGRESS : EGRESS;
    if (is_server)
      note_server(key);
  } else if (direction == c->request_direction)
    return 0; /* More of the client's hello. */
  c->is_answered = 1;
  if (c->request_direction == EGRESS && (servers.lookup(&key) || is_local_client(skb, direction)))
    return NOT_COUNTED;
  if (c->is_hello_told && head[5] == 2)
    tell_hello(skb, c, E_SERVER_HELLO, offset, now);
  return 0;
}

/* Whether the sensor read that the connection was upgraded: then its turns are no exchanges. */
static __always_inline u32 find_websocket(struct conn *c, const struct peer_key *peer) {
  struct peer_key client = *peer;
  client.kind = K_UPGRADED;
  if (websockets.lookup(&client)) {
    c->is_websocket = 1;
    websockets.delete(&client);
  }
  return c->is_websocket;
}

static __always_inline void flush_encrypted(struct conn *c, struct flow *f, const struct peer_key *peer) {
  struct port_count more = {};
  take_count(c, f, &more);
  more.exchanges = __sync_lock_test_and_set(&c->exchanges, 0);
  if (c->request_direction == EGRESS) {
    count_at_peer(peer, &more);
    return;
  }
  if (find_websocket(c, peer))
    more.exchanges = 0;
  struct port_key key = {.cgroup_id = c->cgroup_id, .port = c->local_port, .kind = K_ENCRYPTED};
  count_at_port(&key, &more);
}

/* Whether the next answer is timed. Of TLS 1.3, what a server says first once the client's handshake is over are mostly tickets (RFC 8446 4.6.1),
 * which look like an answer. */
static __always_inline int may_time(const struct conn *c) {
  return c->is_pending && (c->is_spoken || !(c->tls_flags & TLS_13)) && is_timed(c->local_port);
}

/* The server answers a client that is timed. */
static __always_inline void end_wait(struct conn *c) {
  u64 asked_ns = c->asked_ns;
  c->asked_ns = 0;
  count_wait(c->cgroup_id, c->local_port, asked_ns, bpf_ktime_get_ns());
}

static __always_inline int encrypted_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, offset = skb->cb[4];
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  if (!c)
    return PASS;
  struct flow *f = &c->flow[direction];
  if (direction == EGRESS && c->asked_ns && !c->is_pending)
    end_wait(c);
  struct peer_key peer = {};
  read_peer(skb, c, direction, &peer);
  u32 was_answered = c->is_answered;
  if (!was_answered && offset < skb->len) {
    u32 end = take_hello(skb, c, &peer, direction, bpf_ktime_get_ns());
    if (end == NOT_COUNTED)
      c->kind = K_LOCAL_CLIENT;
    if (end)
      return PASS;
  }
  if (c->is_answered && direction == c->request_direction && !c->is_pending && !c->is_websocket) {
    c->is_pending = carries_request(skb, c, offset);
    c->asked_ns = direction == INGRESS && may_time(c) ? bpf_ktime_get_ns() : 0;
  }
  if (c->is_answered != was_answered || skb->cb[1] || f->unflushed > PORT_FLUSH_BYTES || c->exchanges >= PORT_FLUSH_CALLS)
    flush_encrypted(c, f, &peer);
  if (skb->cb[1] == CLOSE_RESET)
    flush_encrypted(c, &c->flow[!direction], &peer); /* It ends here too, without a word. */
  return PASS;
}

#endif
