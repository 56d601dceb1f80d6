/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What crosses between the kernel and the sensor of calls that the kernel matches (http2_match.h). Twins as those of events.h. */
#ifndef APIDAE_HTTP2_EVENTS_H
#define APIDAE_HTTP2_EVENTS_H

/*
 * What user space has read of one connection's header blocks: those that change nothing in the table of their direction, and mean the same
 * as long as nothing else does. `at`: up to this sequence number it had read all of the direction when it knew the meaning.
 */
#define BLOCK_BYTES 64
#define MATCHED_STREAMS 32

struct block_key {
  u64 connection;
  u32 direction;
  u32 length;
  u8 bytes[BLOCK_BYTES]; /* Zero padded. */
};

enum block_use { BLOCK_REQUEST = 1, BLOCK_ANSWER = 2 }; /* Head of a request, of a final response; trailers any may be. */

struct block_entry {
  u32 number; /* Never 0, never used twice. */
  u32 at;
  u32 uses;
  u32 _pad;
};

/* A stream of taught blocks and DATA that has not ended; `stream` 0: none. Messages of gRPC: UNCOUNTED once there is another payload. */
struct waiting_stream {
  u64 started_ns;
  u64 last_ns;
  u64 answered_ns;
  u32 stream;
  u32 request; /* Numbers of its blocks. */
  u32 answer;
  u32 trailers;
  u32 request_bytes;
  u32 response_bytes;
  u16 request_messages;
  u16 response_messages;
  u8 is_request_ended;
  u8 _pad[3];
};

/* One that has ended in good order: a call. Of a size of its own in a ring of its own. */
struct stream_record {
  u64 connection;
  u64 started_ns;
  u64 ended_ns; /* And answered: all of the response was in one packet. */
  u32 request;
  u32 answer;
  u32 trailers;
  u32 stream;
  u32 request_bytes;
  u32 response_bytes;
  u16 request_messages;
  u16 response_messages;
  u8 _pad[4];
};

#define MESSAGES_UNCOUNTED 0xffff

#endif
