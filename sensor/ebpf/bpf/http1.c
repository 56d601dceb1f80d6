/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Sees the HTTP/1 calls of every socket below a cgroup.
 *
 * Hooks (stable since 5.7 as bpf_link): BPF_CGROUP_INET_INGRESS, called by sk_filter_trim_cap() from tcp_v4_rcv() / tcp_v6_rcv() before
 * the segment is queued, and BPF_CGROUP_INET_EGRESS, called by ip_finish_output() / ip6_finish_output(), where segments are still whole
 * (GSO). Ingress therefore sees losses, reordering and duplicates; egress sees duplicates only.
 *
 * Path of a packet: ingress()/egress() find the connection (sockets.h) and put the segment in order (order.h). By tail calls, because one
 * program would pass the verifier's million steps: recognise() with route() and answer() read the plain heads of requests and responses,
 * walk() follows all other messages and tells of heads and ends (again for each MESSAGES steps), skim() counts those that walk() does not
 * reach, body() copies the bodies of samples, finish() ends what a FIN or RST leaves. Before all of them, where they have something to do,
 * guard() judges the segment, and report_unread() puts what the connection could not read into its map.
 *
 * Returns 1, let through, but where a verdict of the sensor stops the segment (enforce.h).
 */
#include <uapi/linux/bpf.h>
#include "constants.h"
#include "conn.h"
#include "cache_maps.h"
#include "order.h"
#include "packet_state.h"
#include "emit.h"
#include "call_events.h"
#include "match.h"
#include "answer.h"
#include "bodies.h"
#include "finish.h"
#include "http2_start.h"
#include "upgraded.h"
#include "http2_frames.h"
#include "encrypted.h"
#include "quic.h"
#include "enforce.h"
#include "skim.h"
#include "streamed.h"
#include "http2_match.h"

/* Encrypted: told by the first bytes of a connection, once and for all. */
static __always_inline void classify_start(struct conn *c, u64 word) {
  if ((word & 0xffff) == 0x0316 || (word & 0xffffff) == 0x030317)
    c->kind = K_ENCRYPTED; /* TLS handshake, or application data of a connection opened before the start. */
}

static __always_inline int enter(struct __sk_buff *skb, const u32 direction) {
  struct packet p;
  if (!parse_packet(skb, &p, direction)) {
    if (p.protocol == PROTOCOL_UDP)
      call_datagram(skb, direction);
    return PASS;
  }
  if (!p.length && !(p.flags & (TCP_FIN | TCP_RST)))
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
  u32 runs = skb->cb[1]; /* Zero, as all of it, unless this program was called again. */
  if (sk->state != BPF_TCP_LISTEN) {
    const struct enforcement *e = find_enforcement();
    if (e && V(e->generation) && p.length && is_guard_due(skb, sk, c, p.offset, direction, e))
      call_guard(skb, p.offset, direction, runs);
    if (V(c->is_unread))
      call_report_unread(skb, direction, runs);
  }
  skb->cb[4] = 0;
  struct flow *f = &c->flow[direction];
  f->unflushed += p.length;
  if (c->kind == K_ENCRYPTED) {
    if (is_encrypted_due(c, f, &p, direction))
      call_encrypted(skb, &p, direction);
    return PASS;
  }
  if (V(c->is_tunnel))
    enter_tunnel(skb, c, &p, direction);
  if (c->kind > K_HTTP) {
    if (f->unflushed > PORT_FLUSH_BYTES || (p.flags & (TCP_FIN | TCP_RST)))
      flush_port(c, f);
    if (p.flags & TCP_RST)
      flush_port(c, &c->flow[!direction]);
    if (c->kind == K_HTTP2)
      enter_http2(skb, sk, c, &p, direction);
    else if (c->kind == K_UPGRADED && sk->state != BPF_TCP_LISTEN)
      enter_upgraded(skb, &p, direction);
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
    const struct settings *set = find_settings();
    if (!is_deferred && !is_closing && set && pass_body(c, f, set, p.length - known)) {
      if (f->unflushed > PORT_FLUSH_BYTES)
        flush_port(c, f);
      return release(f);
    }
    u32 state = V(f->parse.state), is_first = 0;
    if (c->kind == K_NEW && find_http2(skb, sk, c, f, &p, direction)) {
      release(f);
      if (c->kind == K_HTTP2) {
        flush_port(c, f);
        enter_http2(skb, sk, c, &p, direction);
      }
      return PASS;
    }
    if (c->kind == K_NEW && !is_deferred && direction == INGRESS && await_first(sk, c, f, &p))
      return release(f);
    if (c->kind == K_NEW && state == S_NONE) {
      if (!is_flip && !is_closing)
        return release(f); /* In the middle of something older than the sensor. */
      u64 word = 0;
      if (skb->len - f->offset >= 8)
        bpf_skb_load_bytes(skb, f->offset, &word, 8);
      else
        bpf_skb_load_bytes(skb, f->offset, &word, 1);
      classify_start(c, word);
      is_first = is_known_method(word) && !is_local_client(skb, direction);
    }
    if (c->kind == K_ENCRYPTED) {
      release(f);
      if (!is_deferred)
        call_encrypted(skb, &p, direction);
      return PASS;
    }
    if (c->kind > K_HTTP) {
      flush_port(c, f);
      return release(f);
    }
    f->is_tried = 0;
    f->looks = 0;
    f->runs = runs;
    f->messages = 0;
    f->from = f->offset;
    f->is_begun = 0;
    if (V(f->is_copied) && !is_deferred)
      call_body(skb);
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

#define MESSAGES 3 /* Steps a run, of up to SCAN_STEPS each; up to 33 runs a packet. */

static __always_inline int walk_packet(struct __sk_buff *skb, const int is_deferred) {
  u32 zero = 0;
  struct machine *m = machines.lookup(&zero);
  struct hand h;
  if (!m || !take_hand(skb, &h, is_deferred))
    return PASS;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < MESSAGES; i++) {
    if (V(h.f->offset) >= skb->len || V(h.c->kind) > K_HTTP)
      break;
    if (!skb->cb[4]) {
      skb->cb[4] = 1;
      resume(skb, h.sk, h.c, h.f, h.now);
      note_answer(skb, h.c, h.f);
    }
    if (!V(h.f->draft_kind) && V(h.set->is_recognising) && may_recognise(h.c, h.f, read_direction(skb)) && !is_deferred)
      call_recognise(skb);
    if (!V(h.f->draft_kind)) {
      look_before(h.c, h.f);
      step(skb, h.sk, h.c, h.f, m, h.key, h.now);
      note_step(h.c, h.f, read_direction(skb));
    }
    if (is_inside_head(h.c, h.f) && V(h.f->offset) >= skb->len) {
      draft(h.f, h.f->is_response ? E_RESPONSE_HEAD : E_REQUEST_HEAD, 0, h.f->is_response ? h.c->tail : h.c->head);
      draft_head(h.f, V(h.f->offset));
    }
    if (V(h.f->is_due) && !V(h.f->draft_kind) && V(h.f->offset) >= skb->len)
      draft(h.f, E_RESPONSE_HEAD, F_LAST, h.c->tail);
    /* A body before what tells the end of its call, but after its request's head. */
    if (!is_deferred && V(h.f->is_response) && may_begin(h.f, h.set))
      call_body(skb);
    if (V(h.f->draft_kind))
      tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ALL);
    if (!is_deferred && may_begin(h.f, h.set))
      call_body(skb);
  }
  return leave_packet(skb, h.sk, h.c, h.f, is_deferred);
}

/* The packet's next message, which is a request, where user space may have taught it. */
int recognise(struct __sk_buff *skb) {
  int is_started = is_scratch_passed(skb);
  struct scratch *s = is_started ? passed_scratch(skb) : take_scratch();
  struct hand h;
  if (!take_hand(skb, &h, 0)) {
    if (s)
      free_scratch(s);
    return PASS;
  }
  h.f->looks += !is_started;
  if (s && !is_started)
    start_lines(skb, h.sk, &s->head, h.c, h.f, h.set);
  if (s) {
    int goes_on = read_lines(h.sk, &s->head, h.c, h.set);
    pass_scratch(skb, s);
    if (goes_on)
      call_recognise(skb);
    else if (V(s->head.verdict) == HEAD_DONE)
      programs.call(skb, PROGRAM_ROUTE);
    skb->cb[4] = 1;
    if (V(s->head.verdict) != HEAD_REFUSED)
      count(C_TAIL_FAILED);
    free_scratch(s);
  }
  h.f->is_tried = 1;
  call_walk(skb, 0);
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

/* The second half of `recognise`. */
int route(struct __sk_buff *skb) {
  struct scratch *s = passed_scratch(skb);
  if (!s)
    return PASS;
  struct hand h;
  if (!take_hand(skb, &h, 0)) {
    free_scratch(s);
    return PASS;
  }
  struct recognised r;
  int is_known = find_route(skb, h.sk, s, h.c, h.f, h.set, h.now, &r);
  if (is_known)
    take_call(skb, h.sk, h.c, h.f, s, &r, h.key, h.direction, h.now);
  free_scratch(s);
  if (!is_known) {
    h.f->is_tried = 1;
    call_walk(skb, 0);
  }
  if (V(h.f->offset) < skb->len && may_recognise(h.c, h.f, h.direction))
    call_recognise(skb);
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

/* The packet's first message, which is a response. */
int answer(struct __sk_buff *skb) {
  struct hand h;
  if (!take_hand(skb, &h, 0))
    return PASS;
  struct scratch *s = take_scratch();
  look_before(h.c, h.f);
  int is_read = s && load_head(skb, &s->head, V(h.f->offset), ANSWER_MAX) &&
                take_answer(skb, h.sk, h.c, h.f, &s->head, h.key, h.direction, h.now);
  if (s)
    free_scratch(s);
  if (!is_read)
    call_walk(skb, 0);
  note_step(h.c, h.f, read_direction(skb));
  if (is_read && may_begin(h.f, h.set))
    call_body(skb);
  if (V(h.f->draft_kind))
    tell(skb, h.sk, h.c, h.f, h.set, h.now, DRAFTS_ANSWERS);
  return leave_packet(skb, h.sk, h.c, h.f, 0);
}

int walk(struct __sk_buff *skb) { return walk_packet(skb, 0); }
int walk_deferred(struct __sk_buff *skb) { return walk_packet(skb, 1); }
int skim(struct __sk_buff *skb) { return skim_packet(skb); }
int finish(struct __sk_buff *skb) { return finish_conn(skb); }
int follow_frames(struct __sk_buff *skb) { return follow_packet(skb); }
int match_streams(struct __sk_buff *skb) { return match_packet(skb); }
int copy_frames(struct __sk_buff *skb) { return copy_packet(skb); }
int encrypted(struct __sk_buff *skb) { return encrypted_packet(skb); }
int datagram(struct __sk_buff *skb) { return datagram_packet(skb); }
int body(struct __sk_buff *skb) { return take_body(skb); }
int upgraded(struct __sk_buff *skb) { return upgraded_packet(skb); }
int guard(struct __sk_buff *skb) { return guard_packet(skb); }
int guard_streams(struct __sk_buff *skb) { return guard_block(skb); }
int report_unread(struct __sk_buff *skb) { return report_packet(skb); }
