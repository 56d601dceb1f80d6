/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Streams of a connection that wait for their end in the kernel: part of its state, used in http2_match.h. */
#ifndef APIDAE_HTTP2_WAITING_H
#define APIDAE_HTTP2_WAITING_H

#include "conn.h"

/* The packet in hand, and the streams that wait for their end in the kernel (http2_match.h). */
struct matching {
  u64 busy;
  u32 is_wanted;  /* Who could not have it: what waits is to go up. */
  u32 waiting;    /* Streams that do. */
  u32 answering;  /* Of them, those whose answers have begun. */
  u32 offset;
  u32 stop;       /* Offset of the first frame that is not taken here. */
  u8 is_stopped;
  u8 is_untaught; /* There may be blocks in the packet that are not taught. */
  u8 is_done;
  u8 is_harmless; /* The block in hand is not taught, and changes no table. */
  u8 header[32];  /* Of the frame that is looked at; behind it room for what its payload begins with. */
  struct block_key key;
  struct stream_record record;
  struct frames_event event;
  struct waiting_stream streams[MATCHED_STREAMS];
};

#endif
