/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Sees the HTTP/1 calls of every socket below a cgroup.
 *
 * Hooks (stable since 5.7 as bpf_link): BPF_CGROUP_INET_INGRESS, called by sk_filter_trim_cap() from tcp_v4_rcv() / tcp_v6_rcv() before
 * the segment is queued, and BPF_CGROUP_INET_EGRESS, called by ip_finish_output() / ip6_finish_output(), where segments are still whole
 * (GSO). Ingress therefore sees losses, reordering and duplicates; egress sees duplicates only.
 *
 * Path of a packet: ingress()/egress() find the connection and put the segment in order; walk() (a tail call, again for each MESSAGES steps)
 * follows the messages and tells of heads and ends; finish() (a tail call on FIN and RST) ends what is left. They are apart because one
 * program would pass the verifier's million steps.
 *
 * A direction is held by `busy` from the entry to the end of its last tail call: two CPUs do deliver segments of one socket at once.
 *
 * Always returns 1: nothing is ever blocked here.
 */
#include <uapi/linux/bpf.h>
#include "conn.h"
#include "learned.h"
#include "packet.h"
#include "emit.h"
#include "walk.h"
#include "tell.h"
#include "recognise.h"
#include "answer.h"

#define PASS 1

/* Steps of waiting for the other CPU: some 50 us. */
#define SPIN_MAX 2048

static __always_inline int hold(struct flow *f) {
  for (u32 i = 0; i < SPIN_MAX; i++)
    if (!__sync_lock_test_and_set(&f->busy, 1))
      return 1;
  count(C_CONTENDED);
  return 0;
}

static __always_inline int release(struct flow *f) {
  __sync_lock_test_and_set(&f->busy, 0);
  return PASS;
}

/* ---- bytes by port -------------------------------------------------------------------------------------------------------------- */

static __always_inline void count_port(struct conn *c, u64 connections, u64 bytes) {
  u32 port = c->local_port;
  u8 kind = c->kind, *is_listening = listening.lookup(&port);
  int is_server = kind == K_HTTP && c->request_direction == INGRESS;
  if (!is_server && (!is_listening || !*is_listening))
    return;
  struct port_key key = {.port = c->local_port, .kind = kind};
  struct port_count *value = ports.lookup(&key);
  if (!value) {
    struct port_count zero = {};
    ports.update(&key, &zero);
    value = ports.lookup(&key);
  }
  if (!value) {
    count(C_PORTS_FULL);
    return;
  }
  __sync_fetch_and_add(&value->connections, connections);
  __sync_fetch_and_add(&value->bytes, bytes);
}

static __always_inline void flush_port(struct conn *c, struct flow *f) {
  u64 bytes = f->unflushed;
  f->unflushed = 0;
  u64 connections = !c->is_counted;
  c->is_counted = 1;
  count_port(c, connections, bytes);
}

/* ---- entry: the connection, and the segment in its order ------------------------------------------------------------------------ */

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
  if (!from && !p->length)
    return 0;
  c = conns.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!c) {
    count(C_STORAGE_FAILED);
    return 0;
  }
  if (from) {
    bpf_probe_read_kernel(c, sizeof(*c), from);
    c->flow[0].busy = 0;
    c->flow[1].busy = 0;
    deferred.delete(&key);
    return c;
  }
  start_conn(skb, c, p, direction, bpf_get_socket_cookie(skb));
  return c;
}

/* Bytes that were received while a hole was awaited belong to the message that goes on; where a message may have ended among them, the
 * position is lost. */
static __always_inline void take_unseen(struct conn *c, struct flow *f, u32 n) {
  u32 state = V(f->parse.state);
  f->bytes += n;
  if ((state == S_BODY_LENGTH || state == S_CHUNK_DATA) && V(f->left) >= n) {
    f->left -= n;
    f->body += n;
    return;
  }
  if (state != S_BODY_CLOSE && state != S_LOST) {
    f->parse.state = S_LOST;
    count(C_RESYNC);
  }
}

/* Puts the segment in order. Gives the bytes at its start that were seen before; -1: nothing of it is to be walked. */
static __always_inline int order(struct conn *c, struct flow *f, const struct packet *p) {
  if (!f->seen) {
    f->seen = 1;
    f->next = p->sequence + p->length;
    return 0;
  }
  if (f->filling) { /* The hole was filled by the segment before: what was ignored behind it was received. */
    s32 unseen = f->high - f->next;
    f->filling = 0;
    if (unseen > 0) {
      take_unseen(c, f, unseen);
      f->next = f->high;
    }
  }
  s32 ahead = p->sequence - f->next;
  s32 end_ahead = ahead + (s32)p->length;
  if (end_ahead <= 0) {
    count(C_DUPLICATES);
    return -1;
  }
  u32 known = 0;
  if (ahead < 0) {
    known = -ahead;
  } else if (ahead > 0) {
    u32 state = V(f->parse.state);
    int is_countable = state == S_BODY_CLOSE || state == S_LOST ||
                       ((state == S_BODY_LENGTH || state == S_CHUNK_DATA) && V(f->left) >= (u32)ahead);
    count(C_GAPS);
    if (!is_countable && f->waiting < WAIT_MAX) {
      if (!f->waiting || (s32)(p->sequence + p->length - f->high) > 0)
        f->high = p->sequence + p->length;
      f->waiting++;
      return -1;
    }
    take_unseen(c, f, ahead); /* Its retransmission will be a duplicate. */
  }
  if (f->waiting) {
    f->waiting = 0;
    f->filling = 1;
  }
  f->next = p->sequence + p->length;
  return known;
}

/* Encrypted, HTTP/2: told by the first bytes of a connection, once and for all. */
static __always_inline void classify_start(struct conn *c, struct flow *f, u64 word) {
  if ((word & 0xffff) == 0x0316 || (word & 0xffffff) == 0x030317) {
    c->kind = K_ENCRYPTED; /* TLS handshake, or application data of a connection opened before the start. */
  } else if (word == 0x54482f2a20495250ULL /* "PRI * HT"TP/2.0 */) {
    c->kind = K_HTTP2;
  }
}

/* Where the connection's state lies is a constant of each program: it halves what the verifier has to follow. */
static __always_inline struct conn *found_conn(struct __sk_buff *skb, struct bpf_sock *sk, const int is_deferred) {
  if (is_deferred) {
    u64 key = (u64)skb->cb[3] << 32 | skb->cb[2];
    return deferred.lookup(&key);
  }
  return conns.sk_storage_get(sk, 0, 0);
}

static __always_inline void call_walk(struct __sk_buff *skb, const int is_deferred) {
  if (is_deferred)
    programs.call(skb, PROGRAM_WALK_DEFERRED);
  else
    programs.call(skb, PROGRAM_WALK);
}

static __always_inline void call_recognise(struct __sk_buff *skb) { programs.call(skb, PROGRAM_RECOGNISE); }

static __always_inline void call_finish(struct __sk_buff *skb) { programs.call(skb, PROGRAM_FINISH); }

static __always_inline int enter(struct __sk_buff *skb, const u32 direction) {
  struct packet p;
  if (!parse_packet(skb, &p, direction) || (!p.length && !(p.flags & (TCP_FIN | TCP_RST))))
    return PASS;
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = find_conn(skb, sk, &p, direction);
  if (!c || c->kind == K_LOCAL_CLIENT)
    return PASS;
  struct flow *f = &c->flow[direction];
  f->unflushed += p.length;
  if (c->kind > K_HTTP) {
    if (f->unflushed > PORT_FLUSH_BYTES || (p.flags & (TCP_FIN | TCP_RST)))
      flush_port(c, f);
    return PASS;
  }
  if (!hold(f))
    return PASS;
  int known = -1;
  if (p.length)
    known = order(c, f, &p);
  if (p.flags & TCP_FIN) {
    f->fin = 1;
    f->fin_at = p.sequence + p.length;
  }
  u32 is_closing = (p.flags & TCP_RST) ? CLOSE_RESET : f->fin && (!f->seen || f->fin_at == f->next) ? CLOSE_FIN : 0;
  int is_deferred = sk->state == BPF_TCP_LISTEN;
  skb->cb[0] = direction + 1;
  skb->cb[1] = is_closing;
  skb->cb[2] = p.key;
  skb->cb[3] = p.key >> 32;
  if (known >= 0) {
    f->offset = p.offset + known;
    f->head_from = f->offset;
    int is_flip = c->last_direction != direction + 1;
    c->last_direction = direction + 1;
    u32 state = V(f->parse.state), is_first = 0;
    if (c->kind == K_NEW && state == S_NONE) {
      if (!is_flip && !is_closing)
        return release(f); /* In the middle of something older than the sensor. */
      u64 word = 0;
      if (skb->len - f->offset >= 8)
        bpf_skb_load_bytes(skb, f->offset, &word, 8);
      else
        bpf_skb_load_bytes(skb, f->offset, &word, 1);
      classify_start(c, f, word);
      is_first = is_known_method(word) && !is_local_client(skb, direction);
    }
    if (c->kind > K_HTTP) {
      flush_port(c, f);
      return release(f);
    }
    f->is_tried = 0;
    f->looks = 0;
    const struct settings *set = find_settings();
    if (!is_deferred && set && V(set->is_recognising) && (is_first || may_recognise(c, f, direction))) {
      skb->cb[4] = 1;
      call_recognise(skb);
    }
    if (!is_deferred && may_answer(c, f, direction)) {
      skb->cb[4] = 1;
      programs.call(skb, PROGRAM_ANSWER);
    }
    call_walk(skb, is_deferred);
  } else if (is_closing && !is_deferred) { /* Before its accept a connection has no answer to end. */
    call_finish(skb);
  }
  return release(f);
}

int ingress(struct __sk_buff *skb) { return enter(skb, INGRESS); }
int egress(struct __sk_buff *skb) { return enter(skb, EGRESS); }

/* ---- the programs behind tail calls --------------------------------------------------------------------------------------------- */

static __always_inline int is_inside_head(struct conn *c, struct flow *f) {
  u32 state = V(f->parse.state);
  return state != S_NONE && !is_body(state) && !f->is_active && !f->draft_kind && V(c->kind) <= K_HTTP;
}

/* On with what is left of the packet; else its end. */
static __always_inline int leave_packet(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f,
                                        const int is_deferred) {
  if (V(c->kind) > K_HTTP) {
    flush_port(c, f);
    return release(f);
  }
  if (V(f->offset) < skb->len) {
    call_walk(skb, is_deferred);
    count(C_TAIL_FAILED);
    lose_position(sk, c, f);
  }
  if (c->kind == K_HTTP && (!c->is_counted || f->unflushed > PORT_FLUSH_BYTES))
    flush_port(c, f);
  if (skb->cb[1] && !is_deferred)
    call_finish(skb);
  return release(f);
}

#define MESSAGES 3 /* Steps a run, of up to SCAN_STEPS each; up to 33 runs a packet. */

static __always_inline int walk_packet(struct __sk_buff *skb, const int is_deferred) {
  u32 direction = (skb->cb[0] - 1) & 1, zero = 0;
  u64 key = (u64)skb->cb[3] << 32 | skb->cb[2], now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = found_conn(skb, sk, is_deferred);
  struct machine *m = machines.lookup(&zero);
  const struct settings *set = find_settings();
  if (!c || !m || !set)
    return PASS;
  struct flow *f = &c->flow[direction];
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < MESSAGES; i++) {
    if (V(f->offset) >= skb->len || V(c->kind) > K_HTTP)
      break;
    if (!skb->cb[4]) {
      skb->cb[4] = 1;
      resume(skb, sk, c, f, now);
    }
    if (!V(f->draft_kind) && V(set->is_recognising) && may_recognise(c, f, direction) && !is_deferred)
      call_recognise(skb);
    if (!V(f->draft_kind))
      step(skb, sk, c, f, m, key, direction, now);
    if (is_inside_head(c, f) && V(f->offset) >= skb->len) {
      draft(f, f->is_response ? E_RESPONSE_HEAD : E_REQUEST_HEAD, 0, f->is_response ? c->tail : c->head);
      draft_head(f, V(f->offset));
    }
    if (V(f->is_due) && !V(f->draft_kind) && V(f->offset) >= skb->len)
      draft(f, E_RESPONSE_HEAD, F_LAST, c->tail);
    if (V(f->draft_kind))
      tell(skb, sk, c, f, set, now);
  }
  return leave_packet(skb, sk, c, f, is_deferred);
}

/* The packet's next message, which is a request, where user space has taught it. */
static __always_inline int recognise_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1;
  u64 key = (u64)skb->cb[3] << 32 | skb->cb[2], now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = found_conn(skb, sk, 0);
  const struct settings *set = find_settings();
  if (!c || !set)
    return PASS;
  struct flow *f = &c->flow[direction];
  struct scratch *s = take_scratch();
  struct recognised r;
  f->looks++;
  int is_known = s && load_head(skb, &s->head, V(f->offset), HEAD_MAX) && look_up(skb, sk, s, c, f, set, now, &r);
  if (is_known)
    take_call(skb, sk, c, f, s, &r, key, direction, now);
  if (s)
    free_scratch(s);
  if (!is_known) {
    f->is_tried = 1;
    call_walk(skb, 0);
  }
  if (V(f->offset) < skb->len && may_recognise(c, f, direction))
    call_recognise(skb);
  return leave_packet(skb, sk, c, f, 0);
}

/* The packet's first message, which is a response. */
int answer(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1;
  u64 key = (u64)skb->cb[3] << 32 | skb->cb[2], now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = found_conn(skb, sk, 0);
  const struct settings *set = find_settings();
  if (!c || !set)
    return PASS;
  struct flow *f = &c->flow[direction];
  struct scratch *s = take_scratch();
  int is_read = s && load_head(skb, &s->head, V(f->offset), ANSWER_MAX) && take_answer(skb, sk, c, f, &s->head, key, direction, now);
  if (s)
    free_scratch(s);
  if (!is_read)
    call_walk(skb, 0);
  else if (V(f->draft_kind))
    tell(skb, sk, c, f, set, now);
  return leave_packet(skb, sk, c, f, 0);
}

/* FIN or RST: a response without framing is complete with its connection; what else is outstanding was aborted. */
static __always_inline int finish_conn(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, closing = skb->cb[1];
  u64 now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = found_conn(skb, sk, 0);
  const struct settings *set = find_settings();
  if (!c || !set)
    return PASS;
  struct flow *f = &c->flow[direction], *other = &c->flow[!direction];
  u32 request_direction = c->request_direction & 1;
  if (c->kind != K_HTTP || (closing == CLOSE_FIN && direction == request_direction)) {
    if (c->kind != K_NEW)
      flush_port(c, f);
    return release(f); /* A client that has said all may still be answered. */
  }
  int is_held = hold(other);
  struct flow *requests = &c->flow[request_direction], *responses = &c->flow[!request_direction];
  if (responses->is_active && V(responses->parse.state) == S_BODY_CLOSE && closing == CLOSE_FIN) {
    end_response(sk, c, responses, now);
    if (responses->draft_kind)
      tell(skb, sk, c, responses, set, now);
  }
  for (u32 i = 0; i < MESSAGES; i++) {
    u32 number = V(c->tail);
    if (number == V(c->head))
      break;
    struct call *s = slot(sk, c, number);
    if (!s)
      break;
    if (number == V(c->head) - 1 && requests->is_active)
      s->request_bytes = requests->bytes;
    if (responses->is_active)
      s->response_bytes = responses->bytes;
    responses->is_active = 0;
    s->end_time_ns = now;
    draft(f, E_CALL_END, F_ENDED | F_ABORTED, number);
    c->tail = number + 1;
    tell(skb, sk, c, f, set, now);
  }
  u64 untold = V(c->overflow);
  if (V(c->tail) != V(c->head)) {
    if (is_held)
      release(other);
    call_finish(skb);
    count(C_TAIL_FAILED);
    return release(f);
  }
  c->overflow = 0;
  if (untold) {
    u32 calls = C_CALLS, dropped = C_DROPPED_DEPTH;
    u64 *value = counters.lookup(&calls);
    if (value)
      __sync_fetch_and_add(value, untold);
    value = counters.lookup(&dropped);
    if (value)
      __sync_fetch_and_add(value, untold);
  }
  requests->is_active = 0;
  requests->parse.state = S_LOST;
  responses->parse.state = S_LOST;
  flush_port(c, requests);
  flush_port(c, responses);
  if (is_held)
    release(other);
  return release(f);
}

int walk(struct __sk_buff *skb) { return walk_packet(skb, 0); }
int walk_deferred(struct __sk_buff *skb) { return walk_packet(skb, 1); }
int finish(struct __sk_buff *skb) { return finish_conn(skb); }
int recognise(struct __sk_buff *skb) { return recognise_packet(skb); }
