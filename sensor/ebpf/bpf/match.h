/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs before `walk` at the start of a request: a call that user space has taught (its service, host, method, path and everything
 * else that is read in its head) goes by a record, and its head is not looked at again. All others go on to `walk`. `recognise` reads the
 * request line and the field lines, again for each FIELD_STEPS, `route` path and query: together they would pass the verifier's million
 * steps. The scratch with the head goes from one run to the next, its number in skb->cb[4].
 */
#ifndef APIDAE_MATCH_H
#define APIDAE_MATCH_H

#include "siphash.h"
#include "fields.h"
#include "path.h"
#include "query.h"
#include "repeated_fields.h"

#define SCRATCHES 4       /* Softirq on top of process context on top of preempted others. */
#define RECOGNISED_MAX 3  /* Of one segment; each takes two to five tail calls from those that `walk` may need. */

struct scratch {
  u64 busy;
  u64 number; /* Of this scratch. */
  struct root_key root;
  struct leaf_key leaf;
  u64 unseen; /* Of the leaf, as in struct call. */
  u8 from[16], to[16]; /* Addresses of the packet. */
  struct head head;
};

/* What: heads while they are read. Life: one run of `recognise`. Key: a free one. */
BPF_PERCPU_ARRAY(scratches, struct scratch, SCRATCHES);

static __always_inline u32 find_name(u64 hash) {
  u32 bucket = hash >> 8 & (NAME_BUCKETS - 1);
  struct name_bucket *b = names.lookup(&bucket);
  if (!b)
    return 0;
#pragma unroll
  for (u32 i = 0; i < NAME_WAYS; i++)
    if (!((b->entries[i] ^ hash) >> 8))
      return b->entries[i] & 0xff;
  return 0;
}

/* As find_sign() of sensor/ebpf/hashes.py. */
static __always_inline u64 has_sign(const struct edge_key *key) {
  u64 sign = key->hash + key->node * GOLDEN;
  u32 word = sign >> 50;
  const u64 *signs = edge_signs.lookup(&word);
  return signs ? V(*signs) >> (sign >> 44 & 63) & 1 : 0;
}

static __always_inline struct edge *find_edge(const struct edge_key *key) {
  return key->shape || has_sign(key) ? edges.lookup(key) : 0;
}

static __always_inline struct scratch *take_scratch(void) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SCRATCHES; i++) {
    u32 key = i;
    struct scratch *s = scratches.lookup(&key);
    if (s && !__sync_lock_test_and_set(&s->busy, 1)) {
      s->number = i;
      return s;
    }
  }
  count(C_SCRATCH_BUSY);
  return 0;
}

/* To the run that is called next. */
static __always_inline void pass_scratch(struct __sk_buff *skb, struct scratch *s) { skb->cb[4] = 2 + V(s->number); }

static __always_inline int is_scratch_passed(struct __sk_buff *skb) { return skb->cb[4] >= 2; }

static __always_inline struct scratch *passed_scratch(struct __sk_buff *skb) {
  u32 key = skb->cb[4] - 2;
  skb->cb[4] = 1;
  return scratches.lookup(&key);
}

static __always_inline void free_scratch(struct scratch *s) { __sync_lock_test_and_set(&s->busy, 0); }

/* Is a request to be expected at the flow's place, that is worth a look? */
static __always_inline int may_recognise(const struct conn *c, const struct flow *f, u32 direction) {
  return c->kind == K_HTTP && direction == c->request_direction && !f->is_tried && V(f->looks) < RECOGNISED_MAX &&
         V(f->parse.state) == S_NONE;
}

/* 1: the head is in hand, or its first `most` bytes, a power of two. */
static __always_inline int load_head(struct __sk_buff *skb, struct head *h, u32 offset, const u32 most) {
  u32 n = skb->len - offset;
  if (offset >= skb->len)
    return 0;
  if (n > most)
    n = most;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & (most - 1)) + 1;
  asm volatile("" : "+r"(n));
  if (bpf_skb_load_bytes(skb, offset, h->bytes, n) < 0)
    return 0;
  h->end = n;
  h->size = h->node = h->depth = 0;
  h->object = h->host = h->credential = h->length = 0;
  h->has_host = h->has_slash = h->flags = h->is_suspicious = h->is_odd = h->is_unknown = 0;
  return 1;
}

static __always_inline u64 address_word(const u8 *address, u8 family) {
  const u64 *words = (const u64 *)address;
  return family == 4 ? words[0] : fold(words[0], words[1]);
}

static __always_inline u32 find_root(struct __sk_buff *skb, struct scratch *s, const struct conn *c) {
  struct root_key *key = &s->root;
  __builtin_memset(s->from, 0, sizeof(s->from));
  __builtin_memset(s->to, 0, sizeof(s->to));
  u8 family = read_addresses(skb, s->from, s->to);
  key->cgroup_id = c->cgroup_id;
  key->host = V(s->head.host);
  key->method = V(s->head.method);
  key->address = address_word(s->to, family); /* A request goes to its server. */
  key->port = is_egress(skb) ? c->remote_port : c->local_port;
  key->role = ROLE_SERVER + is_egress(skb);
  key->family = family;
  u32 *node = roots.lookup(key);
  return node ? *node : 0;
}

/* The route of the head in hand, its profile's number, and whether its head is to go up nevertheless. */
struct recognised {
  u32 route;
  u32 profile;
};

#define SAMPLE_RETRY_NS (SECOND_NS / 8) /* A route that is due and could not be a sample is not looked at again for so long. */

#define QUIET_MAX 3  /* Doublings of the wait: a busy route is looked at every eight intervals at least. */
#define BUSY_SHIFT 3 /* Busy is a route with a call within an eighth of an interval of the time at which it is due. */

/* From a sample to the next: none while `first` lasts. The samples of a busy route come ever more seldom, but for those of requests with a
 * body: what these bring is looked for in each. What differs in status or size goes up at once, whatever the wait. No branch: the verifier
 * would follow all that comes twice. */
static __always_inline u64 next_wait(const struct settings *set, struct leaf *leaf, const struct head *h, u64 now) {
  u64 is_first = V(leaf->first), quiet = V(leaf->quiet), length = V(h->length) | (V(h->flags) & P_CHUNKED);
  u64 is_busy = (now - V(leaf->next_head_ns) - (set->head_sample_ns >> BUSY_SHIFT)) >> 63;
  is_first = -is_first >> 63;
  asm volatile("" : "+r"(is_first));
  u64 is_alike = is_busy & ~(-length >> 63) & -set->body_bytes_per_second >> 63 & (1 - is_first);
  asm volatile("" : "+r"(is_alike));
  quiet = (quiet + ((quiet - QUIET_MAX) >> 63)) * is_alike & 7;
  asm volatile("" : "+r"(quiet));
  leaf->first -= is_first;
  leaf->quiet = quiet;
  return (set->head_sample_ns << quiet) * (1 - is_first);
}

/* Reads the request line of the head at the flow's place, and takes its field lines from memory or starts to read them. */
static __always_inline void start_lines(struct __sk_buff *skb, struct bpf_sock *sk, struct head *h, const struct conn *c,
                                        const struct flow *f, const struct settings *set) {
  h->runs = 0;
  h->verdict = HEAD_REFUSED;
  if (!load_head(skb, h, V(f->offset), HEAD_MAX))
    return;
  read_line(h);
  if (V(h->verdict) != HEAD_REFUSED)
    find_fields(sk, c, h, set);
}

/* A run of reading field lines. 1: they go on. */
static __always_inline int read_lines(struct bpf_sock *sk, struct head *h, const struct conn *c, const struct settings *set) {
  if (V(h->verdict))
    return 0;
  read_fields(h, set);
  h->runs = V(h->runs) + 1;
  if (!V(h->verdict) && V(h->runs) < FIELD_RUNS)
    return 1;
  end_reading(sk, c, h, set);
  return 0;
}

/* The head asks for the budget: whose it is, as far as it was read. A line that looks like an attack is part of the profile too, and says
 * nothing of that. */
static __always_inline void name_consumer(struct flow *f, const struct head *h) {
  u64 credential = V(h->credential), profile = V(h->profile) & (V(h->is_odd) - 1ULL);
  f->consumer = credential | (profile & (!!credential - 1ULL));
}

static __always_inline int leave_head(struct flow *f, const struct head *h) {
  name_consumer(f, h);
  return 0;
}

static __always_inline int find_route(struct __sk_buff *skb, const struct bpf_sock *sk, struct scratch *s, const struct conn *c, struct flow *f,
                                      const struct settings *set, u64 now, struct recognised *r) {
  struct head *h = &s->head;
  h->node = find_root(skb, s, c);
  read_path(h, set);
  if (V(h->verdict) == HEAD_REFUSED)
    return leave_head(f, h);
  read_query(h, set);
  if (V(h->verdict) == HEAD_REFUSED)
    return leave_head(f, h);
  f->profile = V(h->profile);
  f->host = V(h->host);
  f->credential = V(h->credential);
  f->is_suspicious = V(h->is_suspicious) | V(h->is_odd);
  if (!V(h->node))
    return leave_head(f, h);
  s->leaf.node = V(h->node);
  s->leaf.has_slash = V(h->has_slash);
  struct leaf *leaf = leaves.lookup(&s->leaf);
  if (!leaf)
    return leave_head(f, h);
  u64 profile = V(h->profile);
  u32 *number = V(h->is_unknown) ? 0 : profiles.lookup(&profile);
  r->route = leaf->route;
  r->profile = number ? *number : 0; /* 0: beyond the budget of heads the call is told with its route, but not by whom it was made. */
  s->unseen = ~V(leaf->classes);
  u32 is_due = V(leaf->next_head_ns) <= now;
  if (is_due) {
    is_due = take_sample(set, c->cgroup_id, now);
    leaf->next_head_ns = now + (is_due ? next_wait(set, leaf, h, now) : SAMPLE_RETRY_NS);
  }
  if (!number || is_due || V(h->is_suspicious)) {
    name_consumer(f, h);
    f->is_paid = take_consumer_head(sk, c, f, set, V(h->size), now);
    f->consumer = 0;
    if (V(f->is_paid))
      return 0;
  }
  return r->route != 0;
}

/* As `walk` does at the end of a head, without an event. */
static __always_inline void take_call(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct flow *f, struct scratch *s,
                                      const struct recognised *r, u64 key, u32 direction, u64 now) {
  struct head *h = &s->head;
  u32 size = V(h->size);
  start_message(skb, c, f, direction, now);
  f->parse.flags = V(h->flags) | (V(h->method) == 0x44414548 /* HEAD */ ? P_HEAD : 0) | P_CONFIRMED;
  f->parse.length = V(h->length);
  f->bytes += size;
  f->offset = V(f->offset) + size;
  end_request_head(skb, sk, c, f, key, direction, 0);
  u8 is_told = f->draft_kind == E_REQUEST_HEAD;
  f->draft_kind = 0;
  f->is_told = 0;
  f->is_suspicious = 0;
  f->is_wanted = 0;
  f->profile = 0;
  f->host = 0;
  f->credential = 0;
  if (!is_told)
    return; /* A client end that is left to its server, or a call past the queue. */
  struct call *call = slot(sk, c, V(f->draft_call));
  if (!call)
    return;
  u8 role = s->root.role, family = s->root.family;
  u64 client_cgroup = role == ROLE_SERVER ? c->peer_cgroup_id : c->cgroup_id;
  u64 credential = V(h->credential), profile = credential ? fold(V(h->profile), credential) : V(h->profile);
  call->actor = fold(fold(profile, address_word(s->from, family)), client_cgroup);
  call->credential = credential;
  call->object = V(h->object);
  call->object_number = V(h->number);
  call->route = r->route;
  call->profile = r->profile;
  call->unseen = V(s->unseen);
  call->leaf_node = V(s->leaf.node);
  call->leaf_has_slash = V(s->leaf.has_slash);
  u32 is_unread = V(h->is_suspicious) | (V(h->is_odd) & !r->profile); /* What is known was read once. */
  call->flags = (call->flags & ~CALL_BODY) | CALL_RECORD | is_unread * CALL_SUSPICIOUS;
  u32 state = V(f->parse.state);
  if (state == S_BODY_LENGTH && V(f->offset) < skb->len)
    skip_body(skb, sk, c, f, state, now);
}

#endif
