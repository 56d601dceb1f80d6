/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Follows the frames of HTTP/2 (RFC 9113, 4.1) in each direction and hands up what is read of them: see struct frames_event.
 *
 * Frames and their headers may be cut anywhere. A packet's frames wait in the flow's `out` until one of them has to be told (a header
 * block, the end of a stream); DATA that goes on, and what nobody reads, costs no event. What cannot be followed goes up as plain bytes:
 * behind a hole, from a second CPU, past FRAME_RUNS; the reader in user space then follows it byte by byte. At a packet that starts with a
 * frame the kernel goes on. So much may go up plainly of each direction in a second, and no more.
 */
#ifndef APIDAE_HTTP2_FOLLOW_H
#define APIDAE_HTTP2_FOLLOW_H

#include "packet_state.h"
#include "http2_data.h"
#include "http2_waiting.h"
#include "call_events.h"

#define OUT_MAX 1024       /* Of an event's data; a power of two. */
#define OUT_ROOM 32        /* For the headers that may be added before it is looked at again. */
#define FRAME_STEPS 16     /* A run, of one frame or part each. */
#define FRAME_RUNS 22      /* A packet. Of the 33 tail calls that the kernel allows, up to eight come before (enforce.h, unread.h). */
#define RAW_BYTES_SECOND (512 << 10)
#define COPIED_MAX (256 << 10) /* As MAX_PAYLOAD_BYTES of http2_reader.py: longer payloads are not read. */

enum follow_state {
  FOLLOW_NOT = 0,  /* No packet was seen. */
  FOLLOW_SYNC = 1, /* `next` is inside of what is known: a header, a payload, or between frames. */
  FOLLOW_RAW = 2,  /* It is not known where frames begin. */
};

/* Steps from FOLLOW_SYNC to FOLLOW_RAW. */
enum raw_turn { TURN_NOT = 0, TURN_CUT = 1, TURN_HEADER = 2, TURN_DONE = 3 };

/* What becomes of a packet. */
enum frame_way { WAY_SKIP = 0, WAY_FOLLOW = 1, WAY_COPY = 2 };

struct frame_flow {
  u64 raw_from_ns; /* Begin of the second of `raw_bytes`. */
  u32 raw_bytes;
  u32 next;      /* Sequence number expected. */
  u32 at;        /* Sequence number of the next byte that is not read. */
  u32 hole_from; /* Where something is missing, or was: late segments in there go up. */
  u32 hole_to;
  u32 offset;    /* Where `at` is in the packet in hand. */
  u32 left;      /* Bytes to come of the payload in hand. */
  u32 length;    /* Of all of it. */
  u32 frame_from;/* Sequence number of its header. */
  u32 out_from;  /* Sequence number up to which has been told. */
  u32 out_size;
  u32 inside;    /* `left` of the next event. */
  u32 opened;    /* Streams that begin in `out`. */
  u32 end_at;    /* Sequence number of the FIN. */
  u8 state;
  u8 have;       /* Bytes of the header in hand. */
  u8 kind;
  u8 flags;
  u8 is_copied;
  u8 is_due;
  u8 sending;    /* Kind of the event that is sent next; 0: none. */
  u8 turn;
  u8 way;        /* Of the packet in hand. */
  u8 ended;      /* 1: FIN, 2: RST was told. */
  u8 is_broken;
  u8 is_message; /* DATA in hand, as far as it was not cut: one message of gRPC. */
  u8 may_copy;   /* DATA of samples, of the packet in hand. */
  u8 is_asking;  /* It is the client's, as far as is known. */
  u32 copied;    /* Bytes of it. */
  u32 untaught_at; /* Sequence number up to which there may be blocks that are not taught. */
  u8 header[32];
  struct frames_event event;
  u8 out[2 * OUT_MAX];
};

struct streams {
  struct frame_flow flow[2];
  struct samples samples;
  u32 max_stream;
  struct matching matching;
};

/* What: where both directions of a connection of HTTP/2 are. Life: its socket's. Key: the socket. */
BPF_SK_STORAGE(streams, struct streams);

static __always_inline void fill_event(struct __sk_buff *skb, const struct conn *c, u32 direction, struct frames_event *e) {
  __builtin_memset(e, 0, sizeof(*e));
  e->connection = c->id;
  e->cgroup_id = c->cgroup_id;
  e->peer_cgroup_id = c->peer_cgroup_id;
  e->lost = V(c->lost);
  e->local_port = c->local_port;
  e->remote_port = c->remote_port;
  e->direction = direction;
  if (direction == INGRESS)
    e->family = read_addresses(skb, e->remote_address, e->local_address);
  else
    e->family = read_addresses(skb, e->local_address, e->remote_address);
}

/* ---- telling -------------------------------------------------------------------------------------------------------------------- */

/* Streams that began in an event that found the ring full are counted here and now, whether their answers come up or not. */
static __always_inline void lose_streams(struct conn *c, u32 n) {
  count(C_FRAMES_LOST);
  count_many(C_STREAMS_LOST, n);
  __sync_fetch_and_add(&c->lost, n);
}

/* Sends what was asked for, without branches but one. `out` covers the stream up to the frame in hand where that is told at its end, else up to `at`. */
static __always_inline void send_out(struct conn *c, struct frame_flow *f, u64 now) {
  u32 size = V(f->out_size) & (2 * OUT_MAX - 1);
  u64 kind = V(f->sending), is_pending = is_set(V(f->have)) | (is_set(V(f->left)) & is_zero(V(f->is_copied)));
  u64 is_frames = is_zero(kind ^ E_FRAMES), is_end = is_zero(kind ^ E_END);
  u32 end = choose(is_frames & is_pending, V(f->frame_from), V(f->at));
  f->sending = 0;
  f->is_due = 0;
  if (is_frames & is_zero(size | (end ^ V(f->out_from))))
    return;
  f->event.time_ns = now;
  f->event.kind = kind;
  f->event.flags = c->stream_flags | (S_RESET & -is_below(1, V(f->ended)));
  f->event.sequence = choose(is_end, V(f->end_at), V(f->out_from));
  f->event.covered = (end - V(f->out_from)) & -is_below(kind, E_END);
  f->event.length = size;
  f->event.left = V(f->inside);
  f->event.lost = V(c->lost);
  asm volatile("" : "+r"(size));
  size &= 2 * OUT_MAX - 1;
  if (frames.ringbuf_output(&f->event, sizeof(f->event) + size, WAKE_WAITING)) {
    lose_streams(c, V(f->opened));
  } else {
    count(C_FRAMES);
  }
  f->opened = 0;
  f->out_from = end;
  f->out_size = 0;
  f->inside = V(f->left) & -is_set(V(f->is_copied));
}

static __always_inline void add_header(struct frame_flow *f, u32 length, u8 kind, u8 flags) {
  u32 at = V(f->out_size) & (OUT_MAX - 1);
  u8 *out = f->out + at;
  out[0] = length >> 16;
  out[1] = length >> 8;
  out[2] = length;
  out[3] = kind;
  out[4] = flags;
  out[5] = f->header[5];
  out[6] = f->header[6];
  out[7] = f->header[7];
  out[8] = f->header[8];
  f->out_size = at + FRAME_HEADER;
}

/* ---- a full ring ---------------------------------------------------------------------------------------------------------------- */

#define USED_BYTES 0 /* BPF_RB_AVAIL_DATA */
/* Header blocks of a cgroup, once the reader is so far behind that the ring is half full. */
#define BLOCKS_SECOND 1000

static __always_inline u64 used_bytes(void) { return frames.ringbuf_query(USED_BYTES); }

/* 0: this cgroup has had its share of what is left, and others are to have theirs. */
static __always_inline int may_send_block(u64 cgroup_id, u64 now) {
  if (used_bytes() < FRAMES_BYTES / 2)
    return 1;
  struct budget *b = find_budget(cgroup_id | BLOCKS_KEY);
  if (b && take_from(&b->bucket, 1, BLOCKS_SECOND, BLOCKS_SECOND, now))
    return 1;
  count(C_BLOCKS_REFUSED);
  return 0;
}

/* ---- frames --------------------------------------------------------------------------------------------------------------------- */

static __always_inline void end_frame(struct frame_flow *f) {
  if (V(f->is_copied)) {
    f->is_due = 1;
  } else if (V(f->kind) == FRAME_DATA) {
    add_header(f, V(f->length), V(f->is_message) ? FRAME_MESSAGE : FRAME_DATA, V(f->flags));
    if (V(f->flags) & END_STREAM)
      f->is_due = 1;
  }
  f->is_copied = 0;
}

static __always_inline void advance(struct frame_flow *f, u32 n) {
  f->offset = V(f->offset) + n;
  f->at = V(f->at) + n;
}

#define BLOCK_KINDS (1 << FRAME_HEADERS | 1 << FRAME_PUSH_PROMISE | 1 << FRAME_CONTINUATION)

static __always_inline void take_frame_header(struct __sk_buff *skb, struct conn *c, struct streams *s, struct frame_flow *f,
                                              u64 now) {
  u32 have = V(f->have) & 15, n = FRAME_HEADER - have, here = skb->len - V(f->offset);
  if (n > here)
    n = here;
  asm volatile("" : "+r"(n));
  n = ((n - 1) & 15) + 1;
  if (bpf_skb_load_bytes(skb, V(f->offset), f->header + have, n) < 0) {
    f->is_broken = 1;
    return;
  }
  if (!have)
    f->frame_from = V(f->at);
  advance(f, n);
  f->have = have + n;
  if (have + n < FRAME_HEADER)
    return;
  struct frame_header h;
  read_frame_header(f->header, &h);
  if (!is_frame(&h)) {
    f->is_broken = 1;
    return;
  }
  f->have = 0;
  f->kind = h.kind;
  f->flags = h.flags;
  f->left = f->length = h.length;
  u32 is_read = h.kind < FRAME_KINDS && COPIED_KINDS >> (h.kind & 15) & 1;
  f->is_copied = is_read && h.length <= COPIED_MAX;
  if (V(f->is_copied) && BLOCK_KINDS >> (h.kind & 15) & 1 && !may_send_block(c->cgroup_id, now))
    f->is_copied = 0;
  f->is_message = 0;
  if (h.kind == FRAME_DATA && h.length) {
    u8 is_copied = V(f->may_copy) & is_sampled(&s->samples, h.stream, h.length, read_direction(skb));
    f->is_copied = is_copied;
    f->copied += h.length & -(u32)is_copied;
    f->is_message = is_message(skb, f->header + 16, V(f->offset), h.length) & !(h.flags & PADDED);
  }
  u8 mark = h.kind == FRAME_DATA ? FRAME_DATA_COPIED : V(f->is_copied) ? 0 : FRAME_UNCOPIED;
  if (is_read | V(f->is_copied))
    add_header(f, h.length, h.kind | mark, h.flags);
  if (h.kind == FRAME_HEADERS && h.stream > V(s->max_stream)) {
    s->max_stream = h.stream;
    if (V(f->is_asking)) {
      f->opened++;
      if (V(s->samples.is_ready))
        choose_stream(&s->samples, h.stream);
    }
  }
  if (!h.length)
    end_frame(f);
}

static __always_inline void take_frame_payload(struct __sk_buff *skb, struct frame_flow *f) {
  u32 n = V(f->left), here = skb->len - V(f->offset);
  if (n > here)
    n = here;
  if (V(f->is_copied)) {
    u32 size = V(f->out_size) & (OUT_MAX - 1), room = OUT_MAX - size;
    if (n > room)
      n = room;
    u32 copied = n;
    asm volatile("" : "+r"(copied));
    copied = ((copied - 1) & (OUT_MAX - 1)) + 1;
    if (bpf_skb_load_bytes(skb, V(f->offset), f->out + size, copied) < 0) {
      f->is_broken = 1;
      return;
    }
    f->out_size = size + copied;
  }
  f->left = V(f->left) - n;
  advance(f, n);
  if (!V(f->left))
    end_frame(f);
}

/* ---- what is not followed ------------------------------------------------------------------------------------------------------- */

/* The frame in hand is told as if it ended here, and its rest as if it had a header of its own, which takes the place of its last bytes. */
static __always_inline void cut_frame(struct frame_flow *f) {
  u32 left = V(f->left);
  if (!left || V(f->is_copied))
    return;
  u32 is_data = V(f->kind) == FRAME_DATA;
  if (is_data)
    add_header(f, V(f->length) - left, FRAME_DATA, 0);
  f->header[0] = left >> 16;
  f->header[1] = left >> 8;
  f->header[2] = left;
  f->header[3] = is_data ? FRAME_DATA : FRAME_PASSED_OVER;
  f->header[4] = is_data ? V(f->flags) & END_STREAM : 0;
  f->have = FRAME_HEADER;
  f->frame_from = V(f->at) - FRAME_HEADER;
  f->left = 0;
}

/* The part of a header that is here becomes plain bytes. */
static __always_inline void hand_header(struct frame_flow *f) {
  u32 have = V(f->have);
  f->have = f->left = f->is_copied = f->inside = 0;
  f->state = FOLLOW_RAW;
  if (!have)
    return;
#pragma unroll
  for (u32 i = 0; i < 16; i++)
    f->out[i] = f->header[i];
  f->out_size = have & 15;
  f->sending = E_BYTES;
}

/* A step on the way to FOLLOW_RAW. */
static __always_inline void turn_raw(struct frame_flow *f) {
  if (V(f->turn) == TURN_CUT) {
    cut_frame(f);
    f->sending = E_FRAMES;
  } else {
    hand_header(f);
  }
  f->turn = V(f->turn) + 1;
}

static __always_inline void begin_frames(struct frame_flow *f, u32 at) {
  f->state = FOLLOW_SYNC;
  f->at = f->out_from = at;
  f->out_size = f->inside = f->left = f->opened = 0;
  f->have = f->is_copied = f->is_due = f->turn = f->is_broken = 0;
}

/* The first packet of the direction. */
static __always_inline void begin_flow(struct __sk_buff *skb, struct bpf_sock *sk, struct conn *c, struct frame_flow *f, u32 direction,
                                       u32 sequence, u32 offset) {
  struct flow *base = &c->flow[direction];
  u32 is_client = direction == INGRESS ? S_CLIENT_INGRESS : S_CLIENT_EGRESS, n = 0;
  int is_fresh = 0;
  fill_event(skb, c, direction, &f->event);
  f->next = sequence;
  f->state = FOLLOW_RAW;
  if (direction == INGRESS)
    f->next -= find_missing(sk, sequence, &is_fresh);
  if (f->next != sequence) { /* The beginning comes later: an event without bytes says where it is, so that it is waited for. */
    f->at = f->out_from = f->next;
    f->out_size = 0;
    f->sending = E_BYTES;
    return;
  }
  if (base->preface)
    n = match_preface(skb, offset, base->preface);
  else if (c->stream_flags & (is_client | S_JOINED) || !c->stream_flags)
    n = match_preface(skb, offset, 0);
  if (n) {
    begin_frames(f, sequence);
    f->left = f->length = PREFACE_BYTES - base->preface;
    f->kind = FRAME_PASSED_OVER;
    f->frame_from = sequence;
    c->stream_flags = (c->stream_flags & S_UPGRADED) | is_client;
  } else if (!(c->stream_flags & (S_JOINED | is_client))) {
    begin_frames(f, sequence);
  }
}

static __always_inline int is_in_hole(const struct frame_flow *f, u32 from, u32 to) {
  return (s32)(from - f->hole_to) < 0 && (s32)(to - f->hole_from) > 0;
}

/* Puts the packet's payload in order: what is to be done with it, from `f->offset` on. */
static __always_inline u8 order_frames(struct __sk_buff *skb, struct streams *s, struct frame_flow *f, u32 sequence, u32 offset) {
  u32 length = skb->len - offset;
  s32 ahead = sequence - V(f->next), end = ahead + (s32)length;
  f->offset = offset;
  if (end <= 0) { /* Seen, or late. */
    if (!is_in_hole(f, sequence, sequence + length)) {
      return WAY_SKIP;
    }
    if ((s32)(sequence - f->hole_from) <= 0)
      f->hole_from = sequence + length;
    return WAY_COPY;
  }
  if (ahead < 0 && is_in_hole(f, sequence, V(f->next))) { /* Old and new: all of it goes up. */
    if (V(f->state) == FOLLOW_SYNC)
      f->turn = TURN_CUT;
    f->hole_from = f->hole_to = f->next = sequence + length;
    return WAY_COPY;
  }
  if (ahead < 0)
    f->offset = offset - ahead;
  if (ahead > 0) {
    u32 left = V(f->left), is_open = (s32)(f->hole_to - f->hole_from) > 0;
    if (V(f->state) == FOLLOW_SYNC && left >= (u32)ahead && !V(f->is_copied)) {
      f->left = left - ahead;
      f->at += ahead;
      if (!V(f->left))
        end_frame(f);
    } else {
      if (V(f->state) == FOLLOW_SYNC)
        f->turn = TURN_CUT;
      if (!is_open || V(f->state) == FOLLOW_SYNC)
        f->hole_from = V(f->next);
      f->hole_to = sequence;
    }
  }
  f->next = sequence + length;
  if (V(f->state) == FOLLOW_RAW && !V(f->turn) && !V(f->sending)) {
    u8 kind;
    u32 most = s->max_stream ? s->max_stream + STREAMS_AHEAD : STREAM_MAX;
    if (find_frames(skb, V(f->offset), most, &kind) != SIGN_NONE)
      begin_frames(f, sequence + V(f->offset) - offset);
  }
  return V(f->state) == FOLLOW_RAW || V(f->turn) ? WAY_COPY : WAY_FOLLOW;
}

#endif
