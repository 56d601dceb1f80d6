/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Calls of HTTP/2 that need nothing of user space: streams whose header blocks it has read before, and whose meaning has not changed since
 * (struct block_entry). Such a stream waits here, and once its response is whole it is one record of a size of its own.
 *
 * A packet comes here first. Frame by frame it is taken, as long as each is DATA of a stream that waits, a taught block, or one that nobody
 * reads; from the first other frame on it is followed as ever (http2_follow.h), and before that all streams that wait go up. So whatever is
 * odd (a reset, a loss, a close, a block that is not taught, a sample) finds all of the connection in user space. An answer that does not end
 * with its packet goes up too: it may last. While anybody is blocked, nothing waits, since user space is to know each call as it goes on.
 *
 * A block that is not taught may change the table, so what was taught before means nothing in its direction from then on, until user space
 * has read it and teaches anew: `at` says how far it had read. A taught block, whatever it means, changes no table, nor does one of nothing
 * but indexes, which is known by its bytes; so those that come while user space is behind do no harm, and what it teaches next holds.
 * Sequence numbers wrap: it teaches anew long before.
 *
 * Both directions share what waits, and one CPU may come upon itself in it: a packet that is received while another is sent. Who does not
 * get it leaves a word, and goes the other way.
 */
#ifndef APIDAE_HTTP2_MATCH_H
#define APIDAE_HTTP2_MATCH_H

#include "enforce.h"
#include "http2_frames.h"

#define MATCH_STEPS 32
#define NO_WAKE 1             /* BPF_RB_NO_WAKEUP: it is read when its second has ended. */
#define UNTOLD_MAX (1U << 30) /* Sequence numbers wrap. */
#define BLOCK_FORM 0x2c       /* END_HEADERS, PADDED, PRIORITY. */
#define END_HEADERS 4

/* What: blocks that user space has read. Life: it deletes them with their connection; past its size none are added. */
BPF_F_TABLE("hash", struct block_key, struct block_entry, blocks, 16384, NO_PREALLOC);
/* What: struct stream_record, to the sensor. */
BPF_RINGBUF_OUTPUT(stream_records, 1);

static __always_inline u64 stream_records_used(void) { return stream_records.ringbuf_query(USED_BYTES); }

/* Waits for the other direction's CPU as long as `hold` does; where it is this CPU that was interrupted, not at all. */
static __always_inline int hold_matching(struct matching *m) {
  u64 own = bpf_get_smp_processor_id() + 1;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < SPIN_MAX; i++) {
    u64 holder = __sync_val_compare_and_swap(&m->busy, 0, own);
    if (!holder)
      return 1;
    if (holder == own)
      break;
    for (u32 j = 0; j < 8; j++)
      bpf_ktime_get_ns();
  }
  m->is_wanted = 1;
  count(C_CONTENDED);
  return 0;
}

/* All that waits goes up. */
static __always_inline void hand_waiting(struct __sk_buff *skb, struct conn *c, struct matching *m, u32 direction, u64 now) {
  m->is_wanted = 0;
  if (!V(m->waiting))
    return;
  fill_event(skb, c, direction, &m->event);
  m->event.time_ns = now;
  m->event.kind = E_WAITING;
  m->event.flags = c->stream_flags;
  m->event.length = sizeof(m->streams);
  if (frames.ringbuf_output(&m->event, sizeof(m->event) + sizeof(m->streams), WAKE_WAITING)) {
    lose_streams(c, V(m->waiting));
  } else {
    count(C_FRAMES);
  }
  for (u32 i = 0; i < MATCHED_STREAMS; i++)
    m->streams[i].stream = 0;
  m->waiting = 0;
}

/* 0: it is not known, and may change the table. */
static __always_inline const struct block_entry *find_taught(struct __sk_buff *skb, struct matching *m, u32 offset, u32 length) {
  u32 n = length;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & (BLOCK_BYTES - 1)) + 1;
  u64 *words = (u64 *)m->key.bytes;
#pragma unroll
  for (u32 i = 0; i < BLOCK_BYTES / 8; i++)
    words[i] = 0;
  m->key.length = n;
  u32 size = n; /* Hidden, or `length` is what is loaded, of which verifiers before 6.8 learn no bound from being equal. */
  asm volatile("" : "+r"(size));
  if (size != length || bpf_skb_load_bytes(skb, offset, m->key.bytes, n) < 0)
    return 0;
  return blocks.lookup(&m->key);
}

/* 1: the block that was looked for last is fields of the tables (RFC 7541, 6.1), each named by one byte: it changes none. */
static __always_inline int is_all_indexed(const struct matching *m) {
  const u64 *words = (const u64 *)m->key.bytes;
  u64 odd = 0; /* A bit for each byte. */
#pragma unroll
  for (u32 i = 0; i < BLOCK_BYTES / 8; i++) {
    u64 rest = ~words[i]; /* 0 where a byte is 0xff, which goes on in the next. */
    u64 signs = (rest | ((rest - 0x0101010101010101ULL) & ~rest)) & 0x8080808080808080ULL;
    odd |= signs * 0x2040810204081ULL >> 56 << 8 * i;
  }
  return is_zero(odd << (64 - (V(m->key.length) & 63)) % 64);
}

static __always_inline u16 add_message(u16 messages, u32 length, u8 is_one) {
  if (!length || messages == MESSAGES_UNCOUNTED)
    return messages;
  return is_one ? messages + 1 : MESSAGES_UNCOUNTED;
}

/* The stream has ended. */
static __always_inline void record_stream(struct conn *c, struct matching *m, struct waiting_stream *w, u64 now) {
  struct stream_record *r = &m->record;
  r->connection = c->id;
  r->started_ns = w->started_ns;
  r->ended_ns = now;
  r->request = w->request;
  r->answer = w->answer;
  r->trailers = w->trailers;
  r->stream = w->stream;
  r->request_bytes = w->request_bytes;
  r->response_bytes = w->response_bytes;
  r->request_messages = w->request_messages;
  r->response_messages = w->response_messages;
  if (stream_records.ringbuf_output(r, sizeof(*r), NO_WAKE))
    count(C_STREAMS_LOST);
  else
    count(C_MATCHED);
  w->stream = 0;
  m->waiting--;
  m->answering--;
}

/* 1: the client's frame is taken. */
static __always_inline int take_asked(struct streams *s, struct matching *m, struct waiting_stream *w, const struct frame_header *h,
                                      const struct block_entry *block, u8 is_one, u64 now) {
  u32 is_ended = V(h->flags) & END_STREAM;
  if (block) {
    if (!(V(block->uses) & BLOCK_REQUEST) || V(h->stream) <= V(s->max_stream) || !(V(h->stream) & 1) || V(w->stream) || V(s->samples.is_ready))
      return 0;
    w->started_ns = now;
    w->answered_ns = 0;
    w->request = V(block->number);
    w->answer = w->trailers = 0;
    w->request_bytes = w->response_bytes = 0;
    w->request_messages = w->response_messages = 0;
    w->is_request_ended = 0;
    w->stream = s->max_stream = V(h->stream);
    m->waiting++;
  } else {
    if (V(w->stream) != V(h->stream))
      return 0;
    w->request_messages = add_message(V(w->request_messages), V(h->length), is_one);
  }
  w->request_bytes = V(w->request_bytes) + FRAME_HEADER + V(h->length);
  w->last_ns = now;
  if (is_ended)
    w->is_request_ended = 1;
  return 1;
}

/* 1: the server's frame is taken. */
static __always_inline int take_answered(struct conn *c, struct matching *m, struct waiting_stream *w, const struct frame_header *h,
                                         const struct block_entry *block, u8 is_one, u64 now) {
  u32 is_ended = V(h->flags) & END_STREAM, is_begun = V(w->answer) != 0;
  if (V(w->stream) != V(h->stream) || !V(w->is_request_ended))
    return 0;
  if (block) {
    if (is_begun ? V(w->trailers) != 0 : !(V(block->uses) & BLOCK_ANSWER))
      return 0;
    if (is_begun) {
      w->trailers = V(block->number);
    } else {
      w->answer = V(block->number);
      w->answered_ns = now;
      m->answering++;
    }
  } else {
    if (!is_begun)
      return 0;
    w->response_messages = add_message(V(w->response_messages), V(h->length), is_one);
  }
  w->response_bytes = V(w->response_bytes) + FRAME_HEADER + V(h->length);
  w->last_ns = now;
  if (is_ended)
    record_stream(c, m, w, now);
  return 1;
}

#define PASSED_KINDS (1 << FRAME_PRIORITY | 1 << FRAME_PING | 1 << FRAME_WINDOW_UPDATE)

/* From here on the packet is followed. */
static __always_inline void stop_matching(struct matching *m, u32 offset) {
  if (!V(m->is_stopped))
    m->stop = offset;
  m->is_stopped = 1;
}

/* 1: the kind of the frame in hand is one of a set of bits. */
static __always_inline u64 is_of_kinds(const struct matching *m, u64 kinds) {
  u64 kind = V(m->frame.kind);
  return is_below(kind, FRAME_KINDS) & kinds >> (kind & 15);
}

/* The packet's next frame. Once one was not taken, only what may change the table is looked for. */
static __always_inline void match_frame(struct __sk_buff *skb, struct conn *c, struct streams *s, struct frame_flow *f, u64 now) {
  struct matching *m = &s->matching;
  const struct frame_header *h = &m->frame;
  u32 offset = V(m->offset);
  if (offset + FRAME_HEADER > skb->len || bpf_skb_load_bytes(skb, offset, m->header, FRAME_HEADER) < 0) {
    stop_matching(m, offset);
    m->is_done = m->is_untaught = 1;
    return;
  }
  read_frame_header(m->header, &m->frame);
  u32 length = V(h->length), end = offset + FRAME_HEADER + length;
  m->is_whole = is_below(length, skb->len + 1ULL) & is_below(end, skb->len + 1ULL);
  m->is_harmless = m->is_stale = m->is_taken = m->is_one = 0;
  const struct block_entry *block = 0;
  if (V(h->kind) == FRAME_HEADERS && V(m->is_whole) && (V(h->flags) & BLOCK_FORM) == END_HEADERS) {
    block = find_taught(skb, m, offset + FRAME_HEADER, length);
    if (block)
      m->is_stale = (V(block->at) - V(f->untaught_at)) >> 31; /* Sequence numbers wrap. */
    else if (length - 1 < BLOCK_BYTES)
      m->is_harmless = is_all_indexed(m);
  }
  if (!block && is_of_kinds(m, BLOCK_KINDS) & ~V(m->is_harmless)) {
    stop_matching(m, offset);
    m->is_done = m->is_untaught = 1;
    return;
  }
  if (V(m->is_whole) & ~V(m->is_stopped) & ~V(m->is_stale)) {
    struct waiting_stream *w = &m->streams[V(h->stream) >> 1 & (MATCHED_STREAMS - 1)];
    if (is_of_kinds(m, PASSED_KINDS)) {
      m->is_taken = 1;
    } else if (block || (V(h->kind) == FRAME_DATA && !(V(h->flags) & PADDED))) { /* Not a block that is only harmless. */
      if (!block)
        m->is_one = is_message(skb, m->header + 16, offset + FRAME_HEADER, length);
      m->is_taken = V(m->is_asking) ? take_asked(s, m, w, h, block, V(m->is_one), now)
                                    : take_answered(c, m, w, h, block, V(m->is_one), now);
    }
  }
  if (!V(m->is_taken))
    stop_matching(m, V(m->offset));
  if (!V(m->is_whole)) {
    m->is_done = 1;
    return;
  }
  m->offset = V(m->offset) + FRAME_HEADER + V(h->length);
}

/* 1: the packet goes on where the direction is, and what is left of the frame in hand is nothing that user space reads. */
static __always_inline int is_in_place(const struct frame_flow *f, u32 sequence) {
  return V(f->state) == FOLLOW_SYNC && V(f->next) == sequence && V(f->at) == sequence &&
         !(V(f->have) | V(f->sending) | V(f->turn) | V(f->is_broken) | V(f->is_copied));
}

/* Up to the packet's end there may be blocks that are not taught; where it was seen before, up to the end of all that was. */
static __always_inline void note_untaught(struct frame_flow *f, u32 end) {
  u32 next = V(f->next);
  f->untaught_at = (s32)(end - next) > 0 ? end : next;
}

/* Behind `match_packet`: what is known of the direction, and how much of the packet was taken. */
static __always_inline int end_match(struct __sk_buff *skb, struct conn *c, struct matching *m, struct frame_flow *f, u32 direction, u64 now) {
  u32 offset = skb->cb[3], length = skb->len;
  if (!V(m->is_done) && V(m->offset) < length) { /* More frames than steps. */
    m->is_untaught = 1;
    stop_matching(m, m->offset);
  }
  u32 is_stopped = V(m->is_stopped), taken = (is_stopped ? V(m->stop) : length) - offset;
  if (V(m->is_untaught))
    note_untaught(f, skb->cb[2] + (length - offset));
  if (V(m->is_ready)) {
    f->next = f->at = skb->cb[2] + taken;
    f->offset = offset + taken;
  }
  skb->cb[2] = skb->cb[2] + taken;
  skb->cb[3] = offset + taken;
  if (is_stopped || V(m->answering) || V(m->is_wanted))
    hand_waiting(skb, c, m, direction, now);
  m->answering = 0;
  return is_stopped;
}

static __always_inline int match_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1, offset = skb->cb[3], length = skb->len;
  u64 now = bpf_ktime_get_ns();
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return PASS;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return PASS;
  struct conn *c = conns.sk_storage_get(sk, 0, 0);
  struct streams *s = streams.sk_storage_get(sk, 0, 0);
  if (!c || !s) {
    programs.call(skb, PROGRAM_FOLLOW_FRAMES);
    count(C_TAIL_FAILED);
    return PASS;
  }
  if (!hold(&c->flow[direction])) { /* Who followed it now would not know of blocks that are not taught. */
    skb->cb[4] = COPY_UNHELD;
    programs.call(skb, PROGRAM_COPY_FRAMES);
    count(C_TAIL_FAILED);
    return PASS;
  }
  struct matching *m = &s->matching;
  struct frame_flow *f = &s->flow[direction];
  u32 is_stopped = 1;
  if (hold_matching(m)) {
    u32 is_client = direction == INGRESS ? S_CLIENT_INGRESS : S_CLIENT_EGRESS;
    u32 is_asking = (c->stream_flags & is_client) != 0, is_known = c->stream_flags & (S_CLIENT_INGRESS | S_CLIENT_EGRESS);
    const struct enforcement *e = find_enforcement();
    u32 is_known_place = is_in_place(f, skb->cb[2]), left = is_known_place ? V(f->left) : 0;
    u32 is_ready = is_known_place && is_known && !left && offset < length && !skb->cb[1] && !(V(f->out_size) | V(f->is_due)) &&
                   c->kind == K_HTTP2 && !(e && V(e->generation)) && stream_records_used() <= STREAM_RECORDS_BYTES / 2;
    if (is_ready && V(f->at) - V(f->out_from) > UNTOLD_MAX) {
      f->is_due = 1;
      is_ready = 0;
    }
    if (is_asking)
      prepare_sample(&s->samples, c->cgroup_id, now);
    m->is_ready = is_ready;
    m->is_asking = is_asking;
    m->key.connection = c->id;
    m->key.direction = direction;
    m->stop = offset;
    m->offset = offset + left;
    m->is_stopped = !is_ready;
    m->is_untaught = m->is_done = !is_known_place;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < MATCH_STEPS; i++) {
      asm volatile("" ::: "memory");
      if (V(m->is_done) || V(m->offset) >= length)
        break;
      match_frame(skb, c, s, f, now);
    }
    is_stopped = end_match(skb, c, m, f, direction, now);
    __sync_lock_test_and_set(&m->busy, 0);
  } else {
    note_untaught(f, skb->cb[2] + (length - offset));
  }
  if (is_stopped) {
    skb->cb[4] = AFTER_MATCH;
    programs.call(skb, PROGRAM_FOLLOW_FRAMES);
    count(C_TAIL_FAILED);
  }
  return release(&c->flow[direction]);
}

#endif
