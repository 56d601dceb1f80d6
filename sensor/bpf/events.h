/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every struct that crosses from the kernel to the sensor. sensor/kernel/abi.py is its twin; a test holds the two together.
 */
#ifndef APIDAE_EVENTS_H
#define APIDAE_EVENTS_H

enum event_kind {
  E_REQUEST_HEAD = 1,  /* A part of a request head (all of it, unless it came in several segments). */
  E_RESPONSE_HEAD = 2, /* A part of a response head; with F_ENDED also the call's figures. */
  E_CALL_END = 3,      /* The call's figures. */
  E_FORGET = 4,        /* The connection's calls are told by its server end on this node. */
};

enum event_flag {
  F_FIRST = 1,     /* First part of its head. */
  F_LAST = 2,      /* The head is complete. */
  F_ENDED = 4,     /* The call is over: counted once, in this event. */
  F_ABORTED = 8,   /* It ended before its response was complete. */
  F_LOSSY = 16,    /* Bytes were missed or the position was guessed. */
  F_TRUNCATED = 32,/* The head goes on past what is copied. */
  F_UPGRADED = 64, /* HTTP ends here on this connection (101, CONNECT). */
};

enum event_role { ROLE_SERVER = 1, ROLE_CLIENT = 2 };

/* Common head of all events; `length` bytes of the message's head follow it. Times are CLOCK_MONOTONIC. */
struct http_event {
  u64 time_ns;
  u64 connection; /* Socket cookie, or a random number where the socket did not exist yet (deferred accept). */
  u64 cgroup_id;
  u64 peer_cgroup_id; /* Of the client, where it is on this node; else 0. */
  u64 request_time_ns;
  u64 response_time_ns; /* First byte of the final response; 0: none. */
  u64 end_time_ns;
  u64 request_bytes;
  u64 response_bytes;
  u32 call;     /* 0, 1, 2 .. on the connection. */
  u32 position; /* Of the data in its head. */
  u32 length;
  u16 status;
  u16 local_port;
  u16 remote_port;
  u8 kind;
  u8 role;
  u8 flags;
  u8 family; /* 4 or 6. */
  u8 _pad[2];
  u8 local_address[16]; /* IPv4 in the first four bytes. */
  u8 remote_address[16];
};

/* Counters of the `counters` map, one u64 each. */
enum counter {
  C_CALLS = 0,           /* Calls that ended: used + all C_DROPPED_*. */
  C_DROPPED_RING,        /* Their last event found the ring full. */
  C_DROPPED_DEPTH,       /* More than QUEUE_DEEP requests outstanding on one connection. */
  C_EVENTS,              /* Events submitted. */
  C_EVENTS_LOST,         /* Events that found the ring full (heads and ends). */
  C_DUPLICATES,          /* Segments seen again: retransmissions. */
  C_GAPS,                /* Segments that arrived ahead of a missing one. */
  C_RESYNC,              /* Directions whose position was lost. */
  C_ORPHANS,             /* Responses without a request: joined in the middle of a call. */
  C_REJECTED,            /* Connections tried and found not to be HTTP/1. */
  C_LOCAL_CLIENTS,       /* Client ends left to their server end on this node. */
  C_CONTENDED,           /* Segments that two CPUs held at once for too long. */
  C_TAIL_FAILED,         /* Segments with more parts than tail calls reach. */
  C_STORAGE_FAILED,      /* Sockets that got no state. */
  C_PORTS_FULL,
  C_COUNT,
};

/* What a connection carries; part of the key of the `ports` map. */
enum conn_kind {
  K_NEW = 0,
  K_HTTP = 1,
  K_ENCRYPTED = 2,
  K_HTTP2 = 3,
  K_OTHER = 4,
  K_UPGRADED = 5, /* Was HTTP/1 until 101 or CONNECT. */
  K_LOCAL_CLIENT = 6,
};

struct port_key {
  u16 port;
  u8 kind;
  u8 _pad;
};

struct port_count {
  u64 connections;
  u64 bytes;
};

#endif
