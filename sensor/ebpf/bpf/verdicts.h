/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Structs of enforcement that cross between the sensor and the kernel (enforce.h). sensor/enforce/tables.py is their twin; a test holds the
 * two together.
 */
#ifndef APIDAE_VERDICTS_H
#define APIDAE_VERDICTS_H

#define SLOTS_MAX 16384 /* Targets at once; the sensor's own limit is lower. */

enum enforcement_mark {
  EN_NETWORKS = 1,    /* There are blocked networks, not only addresses. */
  EN_CREDENTIALS = 2, /* There are blocked credentials: heads are looked at. */
  EN_STREAMED = 4,    /* There are verdicts that hold over HTTP/2. */
};

/* Whether anything is enforced, and until when. */
struct enforcement {
  u64 generation;     /* Rises with each change of what is blocked; 0: nothing is. */
  u64 alive_until_ns; /* CLOCK_MONOTONIC. The sensor moves it on; past it nothing is enforced. */
  u64 marks;
  u64 sip_key[2]; /* The installation key under which credentials are hashed. */
};

/* Of a network, or of an address with a prefix of 128; IPv4 as ::ffff:a.b.c.d. */
struct network_key {
  u32 prefix;
  u8 address[16];
};

struct address_key {
  u8 bytes[16]; /* IPv6; IPv4 as ::ffff:a.b.c.d. */
};

struct verdict {
  u64 expires_ns;
  u32 is_scoped;   /* Only where `verdict_scopes` has the server's cgroup and port. */
  u32 is_streamed; /* Its client has connections of HTTP/2 for itself: their first header block is looked at. */
};

struct verdict_scope {
  u64 cgroup_id;
  u32 slot;
  u16 port;
  u8 _pad[2];
};

/* What a verdict has stopped. */
struct stop_count {
  u64 connections;
  u64 bytes;
  u64 spared; /* Requests that were let through, for their peer is never blocked. */
  u64 lost;   /* Resets whose event found the ring full. */
};

enum stop_kind {
  STOP_ADDRESS = 1,
  STOP_CREDENTIAL = 2,
  STOP_SPARED = 3,
};

/* A connection is to be reset. */
struct stop_event {
  u64 time_ns;
  u64 connection; /* Socket cookie. */
  u64 cgroup_id;
  u32 slot;
  u16 local_port;
  u16 remote_port;
  u8 family;
  u8 kind; /* enum stop_kind. */
  u8 _pad[6];
  u8 local_address[16]; /* IPv4 in the first four bytes. */
  u8 remote_address[16];
};

#endif
