/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The field lines of a connection's last request and what was read in them: clients repeat theirs to the byte on one connection, and to
 * compare them costs a tenth of reading them. What was read once stays true of the same bytes: a name taught since only makes fewer
 * profiles.
 */
#ifndef APIDAE_REPEATED_FIELDS_H
#define APIDAE_REPEATED_FIELDS_H

#define SEEN_MIN 32
#define SEEN_MAX 1536
#define SEEN_STEPS 48 /* Of 32 bytes. */
#define SEEN_MISSES 8 /* In a row: then this connection's lines change with each request, and are compared no more. */

struct seen {
  u64 key; /* Of what `settings` it was read by. */
  u64 profile;
  u64 host;
  u64 credential;
  u64 length;
  u32 size;
  u8 flags;
  u8 version;
  u8 misses;
  u8 is_alike;
  u8 is_odd;
  u8 bytes[SEEN_MAX + 32];
};

/* What: field lines of the last request. Life: its socket's; made with the second request. Key: the socket. */
BPF_SK_STORAGE(seens, struct seen);

static __always_inline u64 settings_key(const struct settings *set) { return set->sip_key[0] ^ set->seed; }

static __always_inline u64 differ(const struct head *h, u32 at, const struct seen *s, u32 seen_at) {
  u64 difference = 0;
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    difference |= load(h, at + 8 * i) ^ *(const u64 *)(s->bytes + seen_at + 8 * i);
  return difference;
}

/* Are the lines in hand those that were seen? The last 32 bytes are compared first: other lines are seldom of the same size. */
static __always_inline int is_alike(const struct head *h, struct seen *s) {
  u32 fields = V(h->fields), size = V(s->size);
  if (size < SEEN_MIN || size > SEEN_MAX || fields + size > V(h->end))
    return 0;
  u32 last = V(s->size) - 32;
  if (last > SEEN_MAX - 32 || differ(h, fields + last, s, last))
    return 0;
  s->is_alike = 1;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SEEN_STEPS; i++) {
    if (32 * i + 32 > V(s->size))
      break;
    if (differ(h, V(h->fields) + 32 * i, s, 32 * i)) {
      s->is_alike = 0;
      break;
    }
  }
  return V(s->is_alike);
}

/* 1: what the lines in hand say is known. */
static __always_inline int recall(struct head *h, struct seen *s, const struct settings *set) {
  if (s->misses >= SEEN_MISSES || s->key != settings_key(set) || s->version != V(h->version))
    return 0;
  if (!is_alike(h, s)) {
    s->misses++;
    return 0;
  }
  s->misses = 0;
  h->profile = s->profile;
  h->host = s->host;
  h->credential = s->credential;
  h->length = s->length;
  h->flags = s->flags;
  h->is_odd = s->is_odd;
  h->size = V(h->fields) + V(s->size);
  return 1;
}

static __always_inline void remember(const struct head *h, struct seen *s, const struct settings *set) {
  s->size = V(h->size) - V(h->fields);
  if (V(s->size) < SEEN_MIN || V(s->size) > SEEN_MAX) {
    s->size = 0;
    return;
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SEEN_STEPS; i++) {
    if (32 * i >= V(s->size))
      break;
#pragma unroll
    for (u32 j = 0; j < 4; j++)
      *(u64 *)(s->bytes + 32 * i + 8 * j) = load(h, V(h->fields) + 32 * i + 8 * j);
  }
  s->key = settings_key(set);
  s->version = V(h->version);
  s->profile = V(h->profile);
  s->host = V(h->host);
  s->credential = V(h->credential);
  s->length = V(h->length);
  s->flags = V(h->flags);
  s->is_odd = V(h->is_odd);
}

/* Takes the field lines from memory, or starts to read them. */
static __always_inline void find_fields(struct bpf_sock *sk, const struct conn *c, struct head *h, const struct settings *set) {
  h->is_recalled = 0;
  if (V(c->head)) {
    struct seen *s = seens.sk_storage_get(sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (s)
      h->is_recalled = recall(h, s, set);
  }
  if (!V(h->is_recalled))
    start_fields(h);
}

/* Behind the last run that read them. */
static __always_inline void end_reading(struct bpf_sock *sk, const struct conn *c, struct head *h, const struct settings *set) {
  check_fields(h);
  if (!V(c->head) || V(h->verdict) != HEAD_DONE)
    return;
  struct seen *s = seens.sk_storage_get(sk, 0, 0);
  if (s && s->misses < SEEN_MISSES)
    remember(h, s, set);
}

#endif
