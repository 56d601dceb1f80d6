/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is told of DATA besides its length: whether a frame is just one message of gRPC, and all of it for the streams that are samples.
 *
 * Samples are chosen where a stream begins, before anybody knows its route: of each connection the first ones and then one a second, as
 * far as the budgets of samples and of bytes go. User space chooses among them by route. The budgets are asked once a packet, outside of
 * the loop over its frames, which the verifier could not follow otherwise; so a connection may owe the bytes of one packet.
 */
#ifndef APIDAE_HTTP2_DATA_H
#define APIDAE_HTTP2_DATA_H

#include "bodies.h"
#include "http2_signs.h"

#define SAMPLED_STREAMS 2 /* Open at once. */
#define FIRST_STREAMS 20
#define STREAM_COPY 65536 /* Of each side; a frame that would go beyond stays down, and all after it. */
#define MESSAGE_PREFIX 5

struct sampled {
  u32 stream;
  u32 bytes[2]; /* By direction. */
};

struct samples {
  u64 due_ns;
  u32 count;
  u8 is_ready; /* The next stream that begins is a sample. */
  u8 _pad[3];
  struct sampled streams[SAMPLED_STREAMS];
};

/* Whether the next stream is a sample: asked when a packet of the client's comes. */
static __always_inline void prepare_sample(struct samples *s, u64 cgroup_id, u64 now) {
  u32 zero = 0, n = V(s->count);
  if (V(s->is_ready) || (n >= FIRST_STREAMS && now < V(s->due_ns)))
    return;
  const struct settings *set = settings.lookup(&zero);
  if (!set || !set->body_bytes_per_second)
    return;
  s->is_ready = take_sample(set, cgroup_id, now);
  s->count = V(s->is_ready) ? n + 1 : FIRST_STREAMS; /* One that is refused is not asked for with each stream. */
  s->due_ns = now + (V(s->is_ready) ? SECOND_NS : SECOND_NS / 8);
}

/* A stream begins. */
static __always_inline void choose_stream(struct samples *s, u32 stream) {
  struct sampled *one = &s->streams[V(s->count) & (SAMPLED_STREAMS - 1)];
  s->is_ready = 0;
  one->bytes[INGRESS] = one->bytes[EGRESS] = 0;
  one->stream = stream;
}

/* 1: this DATA frame is of a sample, and its payload may go up. Without branches: the verifier follows each in every step of the loop. */
static __always_inline u8 is_sampled(struct samples *s, u32 stream, u32 length, u32 direction) {
  struct sampled *one = &s->streams[is_zero(V(s->streams[1].stream) ^ stream) & (SAMPLED_STREAMS - 1)];
  u32 number = V(one->stream), is_it = is_zero(number ^ stream), bytes = V(one->bytes[direction & 1]) + (length & -is_it);
  u32 is_over = is_it & is_below(STREAM_COPY, bytes);
  one->bytes[direction & 1] = bytes;
  one->stream = number & (is_over - 1);
  return is_it & (is_over ^ 1);
}

/* So many bytes went up with a packet. Where the budget has no room for them, they were the last. */
static __always_inline void pay_data(struct samples *s, u64 cgroup_id, u32 bytes, u64 now) {
  u32 zero = 0;
  const struct settings *set = settings.lookup(&zero);
  count_many(C_BODY_BYTES, bytes);
  if (set && take_body_bytes(set, cgroup_id, bytes, now))
    return;
  s->streams[0].stream = s->streams[1].stream = 0;
  count(C_BODIES_REFUSED);
}

/* 1: the frame whose payload begins at `offset` is one message of gRPC, with nothing before or behind it. `prefix`: room for it in memory
 * that the verifier does not follow; no branches, for the same reason. */
static __always_inline u8 is_message(struct __sk_buff *skb, u8 *prefix, u32 offset, u32 length) {
  u64 is_here = is_zero(bpf_skb_load_bytes(skb, offset, prefix, MESSAGE_PREFIX));
  u32 size = (u32)V(prefix[1]) << 24 | (u32)V(prefix[2]) << 16 | (u32)V(prefix[3]) << 8 | V(prefix[4]);
  return is_here & is_below(V(prefix[0]), 2) & is_zero((size + MESSAGE_PREFIX) ^ length);
}

#endif
