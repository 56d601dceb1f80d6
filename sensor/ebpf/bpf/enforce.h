/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whether a segment is stopped. Without live rules the packet path pays one read of `enforcement`. With rules each connection to a listening
 * port is judged once a generation by its peer's address, whatever it carries; and each head of clear HTTP/1 is looked through, before the
 * program that listens can read it. Both are done by `guard`, which then calls the packet's first program again. A segment that is stopped is dropped, and an event asks the sensor to destroy its socket, which resets
 * the connection: no client waits. Answers without data (RST of that destruction) always pass.
 *
 * Everything ends by itself: a verdict at its time, all of them when the sensor has not moved `alive_until_ns` on.
 */
#ifndef APIDAE_ENFORCE_H
#define APIDAE_ENFORCE_H

#include "verdicts.h"
#include "packet_state.h"
#include "match.h"

#define STOP 0                /* What a program returns for a segment that is dropped. */
#define GUARDED 0x47554152    /* In skb->cb[4]: `guard` has let the segment through. */
#define TOLD_AGAIN_NS (SECOND_NS / 10) /* Between two events of one connection. */

enum judgement { J_PASS, J_STOP, J_GUARD, J_GUARD_STREAMS };
#define PREFACE_WORD 0x5448202a20495250ULL /* "PRI * HT" */

/* What: whether and until when. Life: the program's. Key: 0. */
BPF_ARRAY(enforcement, struct enforcement, 1);
/* What: slots of blocked addresses. Life: until the sensor deletes them. Key: IPv6, or IPv4 mapped into it. */
BPF_F_TABLE("hash", struct address_key, u32, blocked_addresses, SLOTS_MAX, NO_PREALLOC);
/* What: slots of blocked networks. Life: until the sensor deletes them. */
BPF_F_TABLE("lpm_trie", struct network_key, u32, blocked_networks, SLOTS_MAX, NO_PREALLOC);
/* What: networks that are never blocked, by the sensor's own settings (NEVER_BLOCKED_MAX of sensor/core/config.py). Life: until the sensor deletes them. */
BPF_F_TABLE("lpm_trie", struct network_key, u32, spared_networks, 1024, NO_PREALLOC);
/* What: slots of blocked credentials. Life: until the sensor deletes them. Key: SipHash of the value. */
BPF_F_TABLE("hash", u64, u32, blocked_credentials, SLOTS_MAX, NO_PREALLOC);
/* What: until when, and where. Life: until the sensor deletes it. Key: the slot. */
BPF_F_TABLE("hash", u32, struct verdict, verdicts, SLOTS_MAX, NO_PREALLOC);
/* What: servers a verdict holds for. Life: until the sensor deletes them. */
BPF_F_TABLE("hash", struct verdict_scope, u32, verdict_scopes, 65536, NO_PREALLOC);
/* What: what was stopped. Life: the slot's. Key: the slot. */
BPF_F_TABLE("hash", u32, struct stop_count, stop_counts, SLOTS_MAX, NO_PREALLOC);
#define STOPS_PAGES 16 /* As STOPS_BYTES of sensor/ebpf/abi.py. */
/* What: connections to be reset. */
BPF_RINGBUF_OUTPUT(stops, STOPS_PAGES);

static __always_inline const struct enforcement *find_enforcement(void) {
  u32 zero = 0;
  return enforcement.lookup(&zero);
}

static __always_inline int is_in_force(const struct enforcement *e, const struct conn *c, u32 slot) {
  u64 now = bpf_ktime_get_ns();
  struct verdict *v = verdicts.lookup(&slot);
  if (!v || V(v->expires_ns) <= now || V(e->alive_until_ns) <= now)
    return 0;
  if (!v->is_scoped)
    return 1;
  struct verdict_scope key = {.cgroup_id = c->cgroup_id, .slot = slot, .port = c->local_port};
  return verdict_scopes.lookup(&key) != 0;
}

static __always_inline void map_address(u8 *key, const u8 *address, u8 family) {
  __builtin_memset(key, 0, 16);
  if (family == 4) {
    key[10] = key[11] = 0xff;
    __builtin_memcpy(key + 12, address, 4);
  } else {
    __builtin_memcpy(key, address, 16);
  }
}

/* Sets the connection's slot by its peer's address: 0 where it is not blocked. */
static __always_inline void judge_peer(struct __sk_buff *skb, struct conn *c, const struct enforcement *e, u32 direction) {
  u8 from[16], to[16];
  __builtin_memset(from, 0, 16);
  __builtin_memset(to, 0, 16);
  u8 family = read_addresses(skb, from, to);
  struct network_key key = {.prefix = 128};
  struct address_key address;
  map_address(address.bytes, direction == INGRESS ? from : to, family);
  __builtin_memcpy(key.address, address.bytes, 16);
  c->stop_slot = 0;
  c->is_spared = spared_networks.lookup(&key) != 0;
  if (c->is_spared)
    return;
  u32 *slot = blocked_addresses.lookup(&address);
  if (slot && is_in_force(e, c, *slot)) {
    c->stop_slot = *slot;
    return;
  }
  if (!(e->marks & EN_NETWORKS))
    return;
  slot = blocked_networks.lookup(&key);
  if (slot && is_in_force(e, c, *slot))
    c->stop_slot = *slot;
}

static __always_inline void count_lost_stop(u32 slot) {
  struct stop_count *counted = stop_counts.lookup(&slot);
  count(C_STOPS_LOST);
  if (counted)
    __sync_fetch_and_add(&counted->lost, 1);
}

static __always_inline void tell_stop(struct __sk_buff *skb, struct conn *c, u32 direction, u32 slot, u8 kind) {
  u64 now = bpf_ktime_get_ns();
  if (now < V(c->stop_told_ns))
    return;
  c->stop_told_ns = now + TOLD_AGAIN_NS;
  struct stop_event *event = stops.ringbuf_reserve(sizeof(struct stop_event));
  if (!event) {
    if (kind != STOP_SPARED)
      count_lost_stop(slot);
    return;
  }
  __builtin_memset(event, 0, sizeof(*event));
  event->time_ns = now;
  event->connection = bpf_get_socket_cookie(skb);
  event->cgroup_id = c->cgroup_id;
  event->slot = slot;
  event->local_port = c->local_port;
  event->remote_port = c->remote_port;
  event->kind = kind;
  event->family = direction == INGRESS ? read_addresses(skb, event->remote_address, event->local_address)
                                       : read_addresses(skb, event->local_address, event->remote_address);
  stops.ringbuf_submit(event, 0);
}

/* Drops the segment, and has the sensor destroy the socket. */
static __always_inline int stop_segment(struct __sk_buff *skb, struct conn *c, u32 length, u32 direction, u32 slot, u8 kind) {
  struct stop_count *counted = stop_counts.lookup(&slot);
  if (counted) {
    __sync_fetch_and_add(&counted->bytes, length);
    if (c->stop_kind != kind || V(c->stop_counted) != slot)
      __sync_fetch_and_add(&counted->connections, 1);
  }
  c->stop_kind = kind;
  c->stop_counted = slot;
  tell_stop(skb, c, direction, slot, kind);
  return STOP;
}

/* Is this end the server's? By the port; where that has just begun to listen and user space does not know it yet, by who asked. */
static __always_inline int is_server_end(struct __sk_buff *skb, const struct conn *c, u32 offset, u32 direction) {
  if (is_listened(c->local_port))
    return 1;
  if (c->kind == K_HTTP2)
    return c->stream_flags & S_CLIENT_INGRESS;
  if (c->kind == K_HTTP || (c->kind == K_ENCRYPTED && c->is_client_known))
    return c->request_direction == INGRESS;
  if (c->kind != K_NEW || direction != INGRESS || skb->len - offset < 8)
    return 0;
  u64 word = 0;
  bpf_skb_load_bytes(skb, offset, &word, 8);
  return word == PREFACE_WORD || is_known_method(word);
}

/* Is no header block of the client's seen yet, and does this packet begin with a frame, as far as is known? */
static __always_inline int is_before_blocks(struct bpf_sock *sk) {
  struct streams *s = streams.sk_storage_get(sk, 0, 0);
  if (!s)
    return 1;
  struct frame_flow *f = &s->flow[INGRESS];
  return !V(s->max_stream) && V(f->state) == FOLLOW_SYNC && !V(f->have) && !V(f->left);
}

/* Whether `guard` has to look at a segment with data of a connection that is accepted: the connection was not judged by the current rules, or
 * is blocked, or shows a credential here. */
static __always_inline int is_guard_due(struct __sk_buff *skb, struct bpf_sock *sk, const struct conn *c, u32 offset, u32 direction,
                                        const struct enforcement *e) {
  if (skb->cb[4] == GUARDED || !is_server_end(skb, c, offset, direction))
    return 0; /* It has looked, or this node is the client. */
  if (V(c->stop_generation) != V(e->generation) || V(c->stop_slot))
    return 1;
  if (direction != INGRESS || !(e->marks & EN_CREDENTIALS))
    return 0;
  if (V(c->kind) == K_HTTP2)
    return e->marks & EN_STREAMED && is_before_blocks(sk);
  return V(c->kind) <= K_HTTP && !is_body(V(c->flow[INGRESS].parse.state));
}

/* A segment for which `is_guard_due`. */
static __always_inline int judge(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, u32 offset, u32 direction,
                                 const struct enforcement *e) {
  u64 generation = V(e->generation);
  if (c->stop_generation != generation) {
    c->stop_generation = generation;
    judge_peer(skb, c, e, direction);
  }
  u32 slot = V(c->stop_slot);
  if (slot) {
    if (is_in_force(e, c, slot)) {
      stop_segment(skb, c, skb->len - offset, direction, slot, V(c->stop_kind) ? c->stop_kind : STOP_ADDRESS);
      return J_STOP;
    }
    c->stop_slot = 0;
  }
  if (direction != INGRESS || !(e->marks & EN_CREDENTIALS))
    return J_PASS;
  if (V(c->kind) == K_HTTP2)
    return e->marks & EN_STREAMED && is_before_blocks(sk) ? J_GUARD_STREAMS : J_PASS;
  if (V(c->kind) > K_HTTP)
    return J_PASS;
  u32 state = V(c->flow[INGRESS].parse.state);
  if (is_body(state))
    return J_PASS;
  u64 word = 0;
  if (skb->len - offset >= 8)
    bpf_skb_load_bytes(skb, offset, &word, 8);
  if (word == PREFACE_WORD && c->kind == K_NEW)
    return e->marks & EN_STREAMED ? J_GUARD_STREAMS : J_PASS;
  return state != S_NONE || is_known_method(word) ? J_GUARD : J_PASS;
}

/* ---- the heads of a segment ------------------------------------------------------------------------------------------------------- */

#define GUARD_STEPS 100 /* A run. */
#define GUARD_RUNS 4

enum guard_mode { G_LINE, G_NAME, G_SKIPPED, G_TARGET, G_PAIR, G_VALUE };
/* What surrounds a value; kept in `depth`. */
enum guard_part { G_FIELD, G_COOKIE, G_QUERY };

static __always_inline void guard_value(struct head *h, const struct enforcement *e, u32 at) {
  h->from = at;
  h->at = at;
  h->mode = G_VALUE;
  sip_start(&h->sip, e->sip_key[0], e->sip_key[1]);
}

/* The name in hand ends before the colon at `at`. */
static __always_inline void guard_name(struct head *h, const struct enforcement *e, u64 word, u32 at) {
  u32 from = V(h->from), length = at - from;
  h->at = at;
  h->mode = G_SKIPPED;
  if (length == 6 && ((load(h, from) | LOWER_CASE) & 0xffffffffffffULL) == 0x65696b6f6f63ULL /* "cookie" */) {
    h->depth = G_COOKIE;
    h->at = at + 1;
    h->mode = G_PAIR;
    return;
  }
  u32 kind = find_name(name_end(V(h->name), low_bytes(word, length & 7), length));
  if (kind == N_HEADER_IGNORED || kind == N_HEADER_QUOTED || kind == N_HEADER_HOST || kind == N_HEADER_SHAPE || kind == N_HEADER_AGENT)
    return;
  h->depth = G_FIELD;
  u64 value = load(h, at + 1);
  u64 other = ~(equal_bytes(value, REPEAT(' ')) | equal_bytes(value, REPEAT('\t'))) & MARKS;
  guard_value(h, e, at + 1 + first_byte(other | 1ULL << 63));
}

static __always_inline void guard_start(struct head *h, u64 word, u32 at, u64 seed) {
  u8 byte = word;
  h->from = at;
  h->name = seed;
  h->mode = G_NAME;
  if (byte == '\r' || byte == '\n') { /* The head ends; another may follow at once. */
    u32 next = at + 1 + (byte == '\r');
    h->at = next;
    h->mode = G_TARGET;
    if (next >= V(h->end) || !is_known_method(load(h, next)))
      h->verdict = HEAD_DONE;
  }
}

/* Marks what ends the value in hand. */
static __always_inline u64 value_ends(u64 word, u32 part) {
  u64 ends = line_ends(word);
  u64 cookie = equal_bytes(word, REPEAT(';')), query = equal_bytes(word, REPEAT('&')) | equal_bytes(word, REPEAT(' '));
  return ends | (cookie & -(u64)(part == G_COOKIE)) | (query & -(u64)(part == G_QUERY));
}

/* Marks what ends the part that is looked through in this mode. */
static __always_inline u64 part_ends(u64 word, u32 mode, u32 part) {
  u64 ends = line_ends(word);
  u64 mark = equal_bytes(word, mode == G_NAME ? REPEAT(':') : mode == G_TARGET ? REPEAT('?') : REPEAT('='));
  u64 space = equal_bytes(word, REPEAT(' '));
  return ends | (mark & -(u64)(mode != G_SKIPPED)) | (space & -(u64)(mode == G_PAIR && part == G_QUERY));
}

/* The value ends before `at`. */
static __always_inline void guard_end(struct head *h, u64 word, u32 at) {
  u32 length = at - V(h->from), part = V(h->depth);
  u64 hash = sip_end(&h->sip, low_bytes(word, length & 7), length, 2, 4);
  h->credential = hash ? hash : 1;
  u32 *slot = blocked_credentials.lookup(&h->credential);
  if (slot) {
    h->node = *slot;
    h->verdict = HEAD_DONE;
  }
  u8 byte = load(h, at);
  h->at = at + (part != G_FIELD && (byte == ';' || byte == '&'));
  h->mode = part != G_FIELD && (byte == ';' || byte == '&') ? G_PAIR : G_SKIPPED;
}

static __always_inline void guard_step(struct head *h, const struct enforcement *e, u64 seed) {
  u32 at = V(h->at);
  if (at >= V(h->end)) {
    h->verdict = HEAD_DONE;
    return;
  }
  u64 word = load(h, at);
  u8 mode = V(h->mode);
  if (mode == G_LINE) {
    guard_start(h, word, at, seed);
    if (V(h->mode) != G_NAME)
      return;
    mode = G_NAME;
  }
  u32 part = V(h->depth);
  u64 ends = mode == G_VALUE ? value_ends(word, part) : part_ends(word, mode, part);
  if (!ends) {
    if (mode == G_VALUE)
      sip_word(&h->sip, word, 2);
    if (mode == G_NAME)
      h->name = name_word(V(h->name), word);
    h->at = at + 8;
    return;
  }
  at += first_byte(ends);
  if (at >= V(h->end)) {
    h->verdict = HEAD_DONE;
    return;
  }
  if (mode == G_VALUE) {
    guard_end(h, word, at);
    return;
  }
  u64 here = load(h, at);
  u8 byte = here;
  if (mode == G_NAME && byte == ':') {
    guard_name(h, e, word, at);
  } else if (mode == G_TARGET && byte == '?') {
    h->depth = G_QUERY;
    h->at = at + 1;
    h->mode = G_PAIR;
  } else if (mode == G_PAIR && byte == '=') {
    guard_value(h, e, at + 1);
  } else if (byte == '\r' || byte == '\n') {
    h->at = at + 1 + ((here & 0xffff) == 0x0a0d);
    h->mode = G_LINE;
  } else { /* The query's end, or a byte that ends lines for some. */
    h->at = at + 1;
    h->mode = G_SKIPPED;
  }
}

/* A run of looking for blocked credentials in the heads of a segment. 1: it goes on. */
static __always_inline int look_for_credentials(struct head *h, const struct enforcement *e, const struct settings *set) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < GUARD_STEPS; i++) {
    if (V(h->verdict))
      break;
    guard_step(h, e, set->seed);
  }
  h->runs = V(h->runs) + 1;
  return !V(h->verdict) && V(h->runs) < GUARD_RUNS;
}

/* The segment's heads, ready to be looked through; 0: they cannot be. */
static __always_inline struct scratch *start_guarding(struct __sk_buff *skb, const struct conn *c, u32 offset) {
  struct scratch *s = take_scratch();
  if (!s)
    return 0;
  struct head *h = &s->head;
  if (!load_head(skb, h, offset, HEAD_MAX)) {
    free_scratch(s);
    return 0;
  }
  h->at = h->runs = 0;
  h->verdict = HEAD_GOES_ON;
  h->mode = V(c->flow[INGRESS].parse.state) == S_NONE ? G_TARGET : G_LINE;
  return s;
}

/* `skb->cb`: 0: direction + 1, 1: where the payload begins, 2: tail calls of this packet, 4: a scratch from the run before. */
static __always_inline void call_guard(struct __sk_buff *skb, u32 offset, u32 direction, u32 runs) {
  skb->cb[0] = direction + 1;
  skb->cb[1] = offset;
  skb->cb[2] = runs + 1;
  programs.call(skb, PROGRAM_GUARD);
}

/* The segment goes its way. */
static __always_inline int leave_guard(struct __sk_buff *skb, u32 direction) {
  skb->cb[4] = GUARDED;
  enter_again(skb, direction, skb->cb[2] + 1);
  return PASS;
}

static __always_inline int guard_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, offset = skb->cb[1], slot = 0;
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  const struct enforcement *e = find_enforcement();
  const struct settings *set = find_settings();
  struct scratch *s = 0;
  if (is_scratch_passed(skb)) {
    s = passed_scratch(skb);
  } else if (c && e) {
    int judged = judge(skb, sk, c, offset, direction, e);
    if (judged == J_STOP)
      return STOP;
    if (judged == J_GUARD_STREAMS) {
      skb->cb[2] = skb->cb[2] + 1;
      programs.call(skb, PROGRAM_GUARD_STREAMS);
    }
    if (judged == J_GUARD)
      s = start_guarding(skb, c, offset);
  }
  if (s && c && e && set && look_for_credentials(&s->head, e, set)) {
    pass_scratch(skb, s);
    skb->cb[2] = skb->cb[2] + 1;
    programs.call(skb, PROGRAM_GUARD);
    count(C_TAIL_FAILED);
  }
  if (s) {
    slot = V(s->head.node);
    free_scratch(s);
  }
  if (slot && c && e && is_in_force(e, c, slot)) {
    if (!c->is_spared) {
      c->stop_slot = slot;
      return stop_segment(skb, c, skb->len - offset, INGRESS, slot, STOP_CREDENTIAL);
    }
    struct stop_count *counted = stop_counts.lookup(&slot);
    if (counted)
      __sync_fetch_and_add(&counted->spared, 1);
    tell_stop(skb, c, INGRESS, slot, STOP_SPARED);
  }
  return leave_guard(skb, direction);
}

#endif
