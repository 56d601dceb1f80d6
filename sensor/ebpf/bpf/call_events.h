/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Tells of heads and calls: by events where a head goes up, by records where none does. A call is counted once, here and nowhere else:
 * in its last event, or in its first record.
 */
#ifndef APIDAE_CALL_EVENTS_H
#define APIDAE_CALL_EVENTS_H

#include "consumer.h"
#include "unread.h"

static __always_inline int is_egress(struct __sk_buff *skb) { return read_direction(skb) == EGRESS; }

static __always_inline u8 find_role(struct __sk_buff *skb, const struct conn *c, const struct flow *f) {
  u64 is_new = is_zero(V(c->kind) ^ K_NEW), is_sender = (read_direction(skb) ^ V(f->is_response)) & 1 /* EGRESS */;
  return ROLE_SERVER + choose(is_new, is_sender, V(c->request_direction) & 1);
}

/* ---- records -------------------------------------------------------------------------------------------------------------------- */

/* Of the ring, what each cgroup may still have of its second half before the reader comes again. */
#define RECORD_SHARE_PART 16
#define RECORD_SHARE (RECORDS_BYTES / RECORD_SHARE_PART / (sizeof(struct call_record) + 8))

/* Room in the ring. Once half of it is full each cgroup has a share of the rest only: who fills it shall not blind the sensor to others. */
static __always_inline struct call_record *reserve_share(u64 cgroup_id) {
  if (records.ringbuf_query(RING_USED) <= RECORDS_BYTES / 2)
    return reserve_record();
  u64 read = records.ringbuf_query(RING_READ);
  struct record_share *share = record_shares.lookup(&cgroup_id);
  if (!share) {
    struct record_share fresh = {.read = read};
    record_shares.insert(&cgroup_id, &fresh);
    share = record_shares.lookup(&cgroup_id);
  }
  if (!share)
    return 0;
  if (V(share->read) != read) {
    share->count = 0;
    share->read = read;
  }
  if (__sync_fetch_and_add(&share->count, 1) >= RECORD_SHARE)
    return 0;
  return reserve_record();
}

/* 0 where `to_ns` is not known. Without branches, as is all that every call goes through. */
static __always_inline u32 microseconds(u64 from_ns, u64 to_ns) {
  u64 us = ((to_ns - from_ns) & -is_below(from_ns, to_ns)) / 1000;
  return us | -is_set(us >> 32);
}

/* Sums what found its ring full: a call where no record counts it, figures where they are complete. */
static __always_inline void add_overflow(const struct conn *c, const struct flow *f, const struct call *s) {
  struct overflow_key key = {
      .cgroup_id = c->cgroup_id,
      .port = V(f->draft_role) == ROLE_SERVER ? c->local_port : c->remote_port,
      .role = V(f->draft_role),
      .status_class = s->status / 100,
  };
  struct overflow_count *sum = overflow.lookup(&key);
  if (!sum) {
    struct overflow_count zero = {};
    overflow.insert(&key, &zero); /* Never over another CPU's sums. */
    sum = overflow.lookup(&key);
  }
  if (!sum) {
    if (!V(f->is_counted))
      count(C_DROPPED_RING);
    return;
  }
  if (!V(f->is_counted)) {
    __sync_fetch_and_add(&sum->calls, 1);
    count(C_OVERFLOW);
  }
  if (V(f->draft_flags) & F_ENDED) {
    __sync_fetch_and_add(&sum->request_bytes, s->request_bytes);
    __sync_fetch_and_add(&sum->response_bytes, s->response_bytes);
    __sync_fetch_and_add(&sum->duration_us, microseconds(s->request_time_ns, s->end_time_ns));
  }
}

/* The bit `to` where `flags` has the bit `from`; both powers of two and `to` not above `from`. Without a branch. */
#define MOVE_BIT(flags, from, to) (((flags) & (from)) / ((from) / (to)))

static __always_inline void fill_record(struct __sk_buff *skb, struct conn *c, struct flow *f, struct call *s, struct call_record *r) {
  __builtin_memset(r, 0, sizeof(*r));
  r->time_ns = s->request_time_ns;
  r->connection = c->id;
  r->cgroup_id = c->cgroup_id;
  r->peer_cgroup_id = c->peer_cgroup_id;
  r->actor = s->actor;
  r->route = s->route;
  r->profile = s->profile;
  r->status = s->status;
  r->local_port = c->local_port;
  r->remote_port = c->remote_port;
  r->role = V(f->draft_role);
  r->calls = !V(f->is_counted);
  r->ttfb_us = microseconds(s->request_time_ns, s->response_time_ns);
  u32 flags = V(f->draft_flags), call_flags = V(s->flags);
  u64 if_ended = -(u64)((flags & F_ENDED) / F_ENDED);
  r->request_bytes = s->request_bytes & if_ended;
  r->response_bytes = s->response_bytes & if_ended;
  r->duration_us = microseconds(s->request_time_ns, s->end_time_ns) & if_ended;
  r->flags = MOVE_BIT(call_flags, CALL_LOSSY, R_LOSSY) | (call_flags & CALL_SUSPICIOUS) /* R_SUSPICIOUS */ |
             (call_flags & (CALL_AMBIGUOUS | CALL_BODY)) /* R_AMBIGUOUS, R_BODY */ |
             (flags & F_ENDED) /* R_FINAL */ | MOVE_BIT(flags, F_ABORTED, R_ABORTED) | MOVE_BIT(flags, F_UPGRADED, R_UPGRADED);
  r->object = s->object;
  r->number = s->object_number;
  r->call = s->number;
  r->credential = s->credential;
  u8 server[16] = {};
  int is_from_client = is_egress(skb) == (V(f->draft_role) == ROLE_CLIENT);
  if (is_from_client)
    r->family = read_addresses(skb, r->client_address, server);
  else
    r->family = read_addresses(skb, server, r->client_address);
  if (!s->route) {
    r->flags |= R_UNLEARNED;
    __builtin_memcpy(&r->object, server, 16);
  }
}

/* A part of a call that no head went up for: counted with its response's head, complete at its end, mostly both at once. */
static __always_inline void tell_record(struct __sk_buff *skb, struct conn *c, struct flow *f, struct call *s) {
  if (!(V(f->draft_flags) & F_ENDED) && (V(f->draft_kind) != E_RECORD_HEAD || !(V(f->draft_flags) & F_LAST)))
    return;
  f->is_due = !(V(f->draft_flags) & F_ENDED) && V(f->offset) < skb->len;
  if (V(f->is_due))
    return; /* The response may end in this packet: then one record is enough. */
  /* The end of the request may be told by another CPU at this moment: one of the two counts it. */
  f->is_counted = __sync_lock_test_and_set(&s->is_told, 1);
  if (!(V(f->draft_flags) & F_ENDED) && V(f->is_counted))
    return;
  f->draft_role = find_role(skb, c, f);
  struct call_record *r = reserve_share(c->cgroup_id);
  if (r) {
    fill_record(skb, c, f, s, r);
    submit_record(r);
  } else {
    add_overflow(c, f, s);
  }
  if (V(f->is_counted))
    return;
  count(C_CALLS);
  if (r)
    count(C_RECORDS);
  if (r && !V(s->route))
    count(C_UNLEARNED);
}

/* ---- events --------------------------------------------------------------------------------------------------------------------- */

/* What a program's drafts may be, a constant of each: the verifier does not follow the rest. */
enum draft_scope {
  DRAFTS_ENDS,    /* Without bytes of the packet. */
  DRAFTS_ANSWERS, /* And heads of responses. */
  DRAFTS_ALL,
};

/* 1: the event is in the ring. */
static __always_inline int tell_event(struct __sk_buff *skb, struct conn *c, struct flow *f, const struct call *s, u64 now, const u32 scope) {
  struct http_event *e = &f->event;
  __builtin_memset(e, 0, sizeof(*e));
  e->kind = V(f->draft_kind);
  e->flags = V(f->draft_flags);
  e->time_ns = now;
  e->connection = c->id;
  e->cgroup_id = c->cgroup_id;
  e->peer_cgroup_id = c->peer_cgroup_id;
  e->local_port = c->local_port;
  e->remote_port = c->remote_port;
  e->role = f->draft_role = find_role(skb, c, f);
  e->call = V(f->draft_call);
  if (s) {
    e->request_time_ns = s->request_time_ns;
    e->response_time_ns = s->response_time_ns;
    e->end_time_ns = s->end_time_ns;
    e->request_bytes = s->request_bytes;
    e->response_bytes = s->response_bytes;
    e->status = s->status;
    e->flags |= (V(s->flags) & CALL_LOSSY) * (F_LOSSY / CALL_LOSSY);
    e->marks = MOVE_BIT(V(s->flags), CALL_AMBIGUOUS, M_AMBIGUOUS);
  }
  e->position = V(f->copied);
  u32 size = V(f->draft_size), from = V(f->draft_from);
  f->copied += size;
  if (V(f->draft_flags) & F_TRUNCATED)
    f->copied = REQUEST_COPY; /* What follows would leave a hole. */
  if (scope == DRAFTS_ALL && V(f->draft_kind) == E_REQUEST_HEAD) {
    if (is_egress(skb))
      e->family = read_addresses(skb, e->local_address, e->remote_address);
    else
      e->family = read_addresses(skb, e->remote_address, e->local_address);
    e->profile = f->profile;
    e->host = f->host;
    e->credential = f->credential;
    e->flags |= f->is_suspicious * F_SUSPICIOUS;
  }
  int is_put = put(skb, e, from, size, scope == DRAFTS_ENDS ? 0 : scope == DRAFTS_ANSWERS ? RESPONSE_COPY : HEAD_PIECE);
  if (!is_put)
    count(C_EVENTS_LOST);
  return is_put;
}

/* Decides with the first part of a request head whether it goes up at all, and with each part past the deposit whether more of it does. */
static __always_inline void begin_head(const struct bpf_sock *sk, const struct conn *c, struct flow *f, const struct settings *set, u64 now) {
  u32 is_first = V(f->draft_flags) & F_FIRST, size = V(f->draft_size), copied = V(f->copied);
  if (!V(set->is_recognising) || (!is_first && (V(f->is_muted) || copied + size <= HEAD_DEPOSIT || !size)))
    return;
  u32 is_part = is_first && !(V(f->draft_flags) & F_LAST);
  u32 is_paid = (is_first && V(f->is_paid)) || take_consumer_head(sk, c, f, set, size + is_part * HEAD_DEPOSIT, now);
  f->is_paid = 0;
  if (is_first) {
    f->is_muted = !is_paid;
    if (is_paid)
      count(C_HEADS);
  } else if (!is_paid) {
    f->draft_size = 0;
    f->draft_flags |= F_TRUNCATED;
  }
}

/* What of a head goes up no more. */
static __always_inline void note_head(struct conn *c, const struct flow *f) {
  u64 flags = V(f->draft_flags), is_cut = (flags & F_TRUNCATED) / F_TRUNCATED * is_zero(V(f->is_muted));
  add_unread(c, UNREAD_HEAD, is_cut * ((flags & F_LAST) / F_LAST), is_cut * (V(f->offset) - V(f->head_from) - V(f->draft_size)));
}

static __always_inline void end_head(struct flow *f, struct call *s) {
  if (!(V(f->draft_flags) & F_LAST))
    return;
  if (s && V(f->is_muted))
    s->flags = (s->flags & ~CALL_BODY) | CALL_RECORD | f->is_suspicious * CALL_SUSPICIOUS;
  f->is_muted = f->is_suspicious = 0;
  f->profile = f->host = f->credential = f->consumer = 0;
}

/* The draft's event found the ring full. */
static __always_inline void lose_event(const struct conn *c, struct flow *f, const struct call *s, const struct settings *set,
                                       const u32 scope) {
  if (scope == DRAFTS_ALL && V(f->draft_kind) == E_REQUEST_HEAD) {
    f->is_muted = V(set->is_recognising); /* Then the call goes on as one without a head. */
  } else if (V(f->draft_flags) & F_ENDED) {
    f->is_counted = s && V(s->flags) & CALL_ANSWERED;
    if (s && V(set->is_recognising))
      add_overflow(c, f, s);
    else if (!V(f->is_counted))
      count(C_DROPPED_RING);
  }
}

/* Sends what the flow's draft asks for: an event, or a record where the call's head did not go up. */
static __always_inline void tell(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, const struct settings *set,
                                 u64 now, const u32 scope) {
  u32 number = V(f->draft_call);
  struct call *s = slot(sk, c, number);
  if (s && s->number != number)
    s = 0;
  u32 is_request = scope == DRAFTS_ALL && V(f->draft_kind) == E_REQUEST_HEAD;
  if (is_request) {
    begin_head(sk, c, f, set, now);
    note_head(c, f);
  }
  if (!is_request && s && V(s->flags) & CALL_RECORD)
    f->draft_kind = E_RECORD + (V(f->draft_kind) == E_RESPONSE_HEAD);
  if (V(f->draft_kind) >= E_RECORD) {
    if (s)
      tell_record(skb, c, f, s);
  } else if (!is_request || !V(f->is_muted)) {
    if (V(f->draft_flags) & F_ENDED)
      count(C_CALLS);
    if (!tell_event(skb, c, f, s, now, scope))
      lose_event(c, f, s, set, scope);
    else if (s && V(f->draft_kind) == E_RESPONSE_HEAD && V(f->draft_flags) & F_LAST)
      s->flags |= CALL_ANSWERED;
  }
  if (scope == DRAFTS_ALL && V(f->draft_kind) == E_REQUEST_HEAD)
    end_head(f, s);
  f->draft_kind = 0;
}

#endif
