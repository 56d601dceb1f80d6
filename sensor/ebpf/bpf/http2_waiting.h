/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Streams of a connection that wait for their end in the kernel: part of its state, used in http2_match.h. */
#ifndef APIDAE_HTTP2_WAITING_H
#define APIDAE_HTTP2_WAITING_H

#include "http2_signs.h"

/* The packet in hand, and the streams that wait for their end in the kernel (http2_match.h). */
struct matching {
  u64 busy;
  u32 is_wanted;  /* Who could not have it: what waits is to go up. */
  u32 waiting;    /* Streams that do. */
  u32 answering;  /* Of them, those whose answers have begun. */
  u32 offset;
  u32 stop;       /* Offset of the first frame that is not taken here. */
  u8 is_ready;    /* The packet is in its place, and nothing else is in the way. */
  u8 is_asking;   /* It is the client's. */
  u8 is_stopped;
  u8 is_untaught; /* There may be blocks in the packet that are not taught. */
  u8 is_done;
  /* Of the frame in hand. All of it is here, and not on the stack, so that the verifier does not follow each value to the end. */
  u8 is_harmless; /* A block that is not taught, and changes no table. */
  u8 is_whole;
  u8 is_stale;    /* A block that was taught before one that was not. */
  u8 is_taken;
  u8 is_one;      /* DATA of one message. */
  u8 header[32];  /* Behind it room for what its payload begins with. */
  struct frame_header frame;
  struct block_key key;
  struct stream_record record;
  struct frames_event event;
  struct waiting_stream streams[MATCHED_STREAMS];
};

#endif
