/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every struct that crosses from the kernel to the sensor. sensor/ebpf/abi.py is its twin; a test holds the two together.
 */
#ifndef APIDAE_EVENTS_H
#define APIDAE_EVENTS_H

enum event_kind {
  E_REQUEST_HEAD = 1,  /* A part of a request head (all of it, unless it came in several segments). */
  E_RESPONSE_HEAD = 2, /* A part of a response head; with F_ENDED also the call's figures. */
  E_CALL_END = 3,      /* The call's figures. */
  E_FORGET = 4,        /* The connection's calls are told by its server end on this node. */
  E_FRAMES = 16,       /* HTTP/2, struct frames_event: frames of one direction, in order. */
  E_BYTES = 17,        /* The same as plain bytes, where the kernel does not follow them: around holes, in any order. */
  E_END = 18,          /* The direction ended: S_RESET or in good order. */
  E_LEAVE = 19,        /* As E_FORGET. */
  E_CLIENT_HELLO = 24, /* First bytes of an encrypted connection, of its client. */
  E_SERVER_HELLO = 25, /* And of its server: only after the client's. */
  E_WAITING = 30,      /* HTTP/2: streams that waited in the kernel, MATCHED_STREAMS of struct waiting_stream. */
  E_REQUEST_BODY = 20, /* Bytes that followed the head of a sampled call's request, chunk framing included. */
  E_RESPONSE_BODY = 21,/* The same of its response. */
  E_UPGRADE_END = 28,  /* An upgraded connection ended: bytes since its 101; as `profile` and `host` the messages of client and server,
                        * ~0 where they are not known. */
};

enum event_flag {
  F_FIRST = 1,     /* First part of its head. */
  F_LAST = 2,      /* The head is complete. */
  F_ENDED = 4,     /* The call is over: counted once, in this event. */
  F_ABORTED = 8,   /* It ended before its response was complete. */
  F_LOSSY = 16,    /* Bytes were missed or the position was guessed. */
  F_TRUNCATED = 32,/* The head goes on past what is copied. */
  F_UPGRADED = 64, /* HTTP ends here on this connection (101, CONNECT). */
  F_SUSPICIOUS = 128, /* The query holds bytes that attacks are made of. */
};

/* More flags. */
enum event_mark {
  M_AMBIGUOUS = 1, /* Programs may disagree where the request ends: a sign of smuggling. */
};

enum event_role { ROLE_SERVER = 1, ROLE_CLIENT = 2 };

/* Common head of all events; `length` bytes of the message's head follow it, or of its body. Times are CLOCK_MONOTONIC.
 * Of a body `position` counts from the end of the head, and is negative where the head comes with it: then `profile` is the route of the
 * call, which is told by a record with R_BODY. */
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
  u8 marks;  /* enum event_mark. */
  u8 _pad;
  u64 profile; /* Request heads: the hashes that user space teaches back in `profiles` and `roots`; 0: not computed. */
  u64 host;
  u64 credential; /* As in struct call_record. */
  u8 local_address[16]; /* IPv4 in the first four bytes. */
  u8 remote_address[16];
};

/* Of struct frames_event. */
enum stream_flag {
  S_JOINED = 1,         /* What was said before was missed. */
  S_UPGRADED = 2,       /* Began as HTTP/1.1: the upgrading request is stream 1. */
  S_CLIENT_INGRESS = 4, /* The client sends in this direction. Neither: it is not known. */
  S_CLIENT_EGRESS = 8,
  S_RESET = 16,
};

/*
 * HTTP/2 of one direction. E_FRAMES: `length` bytes of frames follow, each with its header. Payloads follow only of those that are read
 * (HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION) and not marked FRAME_UNCOPIED in their kind, and of DATA whose kind is
 * FRAME_DATA_COPIED; other DATA is its header alone and told when its last byte was seen, its kind FRAME_MESSAGE where it is just one
 * message of gRPC; all others are left out, but `covered` has them. The payload that one event ends in goes on in the
 * next, whose `left` says how much of it is to come. Events of one direction leave no hole in `sequence`; a hole is a loss.
 */
struct frames_event {
  u64 time_ns;
  u64 connection; /* As of struct http_event. */
  u32 sequence;   /* TCP's, of the first byte that is covered. */
  u32 covered;    /* Bytes of the stream. */
  u16 length;
  u16 lost;       /* Streams of the connection that began in events for which there was no room, so far; wraps. */
  u32 left;
  u8 kind;
  u8 direction;
  u8 flags;
  u8 family;
  u16 local_port;
  u16 remote_port;
  u64 cgroup_id;
  u64 peer_cgroup_id;
  u8 local_address[16];
  u8 remote_address[16];
};

#define FRAME_UNCOPIED 0x80
#define FRAME_MESSAGE 0x20 /* DATA. */
#define FRAME_DATA_COPIED 0x40

enum record_flag {
  R_LOSSY = 1,       /* As F_LOSSY. */
  R_ABORTED = 2,     /* As F_ABORTED. */
  R_FINAL = 4,       /* Bytes and duration are complete. */
  R_UNLEARNED = 8,   /* Neither recognised nor within the budget of heads: route and profile are 0. */
  R_SUSPICIOUS = 16, /* As F_SUSPICIOUS. */
  R_UPGRADED = 32,   /* As F_UPGRADED. */
  R_AMBIGUOUS = 64,  /* As M_AMBIGUOUS. */
  R_BODY = 128,      /* Its response went up, as E_RESPONSE_BODY before this record. */
};

/* A call that needs no head in user space. Of a size of its own in a ring of its own, so that the reader takes an array.
 * A response that is not complete in the segment of its head gives two: calls 1, then calls 0 with R_FINAL. */
struct call_record {
  u64 time_ns; /* First byte of the request, CLOCK_MONOTONIC. */
  u64 connection;
  u64 cgroup_id;
  u64 peer_cgroup_id;
  u64 actor;  /* Profile, credential, client address and client cgroup, folded. */
  u64 object; /* Values of the path, hashed; 0: none. R_UNLEARNED: `object` and `number` are the server's address. */
  u64 number; /* The last value of the path as a number; NUMBER_NONE. */
  u32 route;  /* Of struct leaf. */
  u32 profile;/* Of the `profiles` map. */
  u64 request_bytes;
  u64 response_bytes;
  u32 ttfb_us;     /* Request's first byte to the final response's; saturated, as all microseconds. 0 also: no response. */
  u32 duration_us; /* To the end; 0 unless R_FINAL. */
  u16 status;
  u16 local_port;
  u16 remote_port;
  u8 role;
  u8 flags;
  u8 family;
  u8 calls;
  u8 _pad[2];
  u32 call; /* As in struct http_event. */
  u8 client_address[16]; /* Of the client's end, whichever end this is. IPv4 in the first four bytes. */
  u64 credential; /* Hash of a value that by itself says who calls, and that is not in the profile (varying_fields.h); 0: none. */
};

#define NUMBER_NONE (~0ULL)

/* ---- what user space has learned (sensor/ebpf/hashes.py makes the hashes) ------------------------------------------------------ */

/* Where the trie of a service, host and method begins. */
struct root_key {
  u64 cgroup_id;
  u64 host;    /* SipHash of the Host field's value. */
  u64 method;  /* First eight bytes of the method, zero padded. */
  u64 address; /* Of the server's end: IPv4 as it lies in the packet, IPv6 folded. */
  u16 port;    /* The server's. */
  u8 role;
  u8 family;
  u8 _pad[4];
};

struct edge_key {
  u32 node;
  u32 shape; /* 0: exact. */
  u64 hash;  /* SipHash of the segment where it is exact; 0 where its shape decides. */
};

struct edge {
  u32 node;
  u32 flags;
};

enum edge_flag {
  E_PARAMETER = 1, /* The segment is a value. */
};

struct leaf_key {
  u32 node;
  u32 has_slash; /* A trailing slash. */
};

struct leaf {
  u64 next_head_ns; /* From this time on the next call's head goes up, as a sample, and its bodies with it. */
  u32 route;        /* Never 0, never used twice. */
  u16 first;        /* Samples that follow each other at once. */
  u16 quiet;        /* How often the wait for the next sample was doubled. */
  u64 classes;      /* Bits of body_class() of the responses whose bodies went up; those of others go up at once. */
};

/* Shape of a segment: class | length << 8 (of hex and tokens) | kinds of bytes << 24 (of tokens). */
enum segment_class {
  SEGMENT_EXACT = 0,  /* None of these: exact edges only. */
  SEGMENT_DIGITS = 1, /* 1 to 18 digits; the length is not in the shape. Up to 2 digits at a depth of up to 2 are exact: versions. */
  SEGMENT_UUID_LOWER = 2,
  SEGMENT_UUID_UPPER = 3,
  SEGMENT_HEX_LOWER = 4, /* 8 or more, a digit and a letter among them. */
  SEGMENT_HEX_UPPER = 5,
  SEGMENT_ULID = 6,  /* 26 of Crockford's base 32, upper case; the length is not in the shape. */
  SEGMENT_TOKEN = 7, /* 20 or more of A-Z a-z 0-9 - _, two digits among them. */
};

enum token_kind { T_DIGIT = 1, T_LOWER = 2, T_UPPER = 4, T_DASH = 8, T_UNDERSCORE = 16 };

/* Names of header fields and query parameters: what their values mean to user space. An entry of a bucket is hash & ~0xff | kind. */
enum name_kind {
  N_HEADER_IGNORED = 1, /* Not read, but where it has signs of an attack (attack_signs.h). */
  N_HEADER_HOST = 2,
  N_QUERY_IGNORED = 3,
  N_QUERY_CREDENTIAL = 4, /* Part of the profile. */
  N_QUERY_OBJECT = 5,     /* Part of the object, as a value of the path. */
  N_HEADER_AUTHORIZATION = 6, /* Told, cut or part of the profile, by its scheme (varying_fields.h). */
  N_HEADER_KEY = 7,           /* A key: told, unless it may be a JWT. */
  N_HEADER_PRESENT = 8,       /* A signature of the request: only that there is one is part of the profile. */
  N_HEADER_QUOTED = 9,        /* Not read, and quotes, semicolons and escapes are in its grammar. */
  N_HEADER_SHAPE = 10,        /* The same, but that it stands here is part of the profile: software differs in it. */
  N_HEADER_AGENT = 11,        /* User-Agent: the same of N_HEADER_IGNORED, with the name of its first product. */
  N_HEADER_COOKIE = 12,       /* Read cookie by cookie (cookies.h). */
  N_COOKIE_IGNORED = 13,      /* Never a credential. */
  N_COOKIE_TOLD = 14,         /* A session or key. */
};

#define EDGE_SIGNS 16384 /* Words of 64 bits: 16 bits for each edge that may be taught. */
#define NAME_BUCKETS 2048
#define NAME_WAYS 4

struct name_bucket {
  u64 entries[NAME_WAYS]; /* Bucket of a hash: (hash >> 8) % NAME_BUCKETS. */
};

struct settings {
  u64 sip_key[2]; /* The installation key, little-endian. */
  u64 seed;       /* Of name hashes. */
  u64 is_recognising;
  u64 head_sample_ns;  /* Between two sampled heads of a leaf. */
  u64 heads_per_second;/* Of what is not recognised, by cgroup. */
  u64 heads_burst;
  u64 node_heads_per_second; /* By all cgroups together. */
  u64 node_heads_burst;
  u64 body_bytes_per_second; /* Of bodies, by cgroup; 0: none go up. */
  u64 node_body_bytes_per_second;
  u64 samples_per_second; /* Calls of known routes whose heads go up as samples, by the node. */
};

/* Of a cgroup, and under key 0 of the node: what it owes for the heads so far (budget.h). */
struct budget {
  u64 bucket;  /* At the rate of `settings`. */
  u64 reserve; /* At a cgroup's share of the node's rate: what it has when others take all. */
};

/* Of a cgroup: its records since the reader was at `read`, as far as half of their ring was full. */
struct record_share {
  u64 read;
  u64 count;
};

/* Calls that found the ring full, or that their cgroup had had its share of it. */
struct overflow_key {
  u64 cgroup_id;
  u16 port; /* The server's. */
  u8 role;
  u8 status_class; /* Hundreds; 0: no response. */
  u8 _pad[4];
};

struct overflow_count {
  u64 calls;
  u64 request_bytes;
  u64 response_bytes;
  u64 duration_us;
};

/* The client's socket of a connection between two ends of this node. */
struct client_end {
  u64 cgroup_id;
  u64 connection; /* As of struct http_event. */
};

/* Counters of the `counters` map, one u64 each. */
enum counter {
  C_CALLS = 0,           /* Calls that ended: used + all C_DROPPED_*. */
  C_DROPPED_RING,        /* Their last event found the ring full, and `overflow` was full too. */
  C_DROPPED_DEPTH,       /* More than QUEUE_DEEP requests outstanding on one connection. */
  C_EVENTS_LOST,         /* Events that found the ring full (heads and ends). */
  C_RESYNC,              /* Directions whose position was lost. */
  C_ORPHANS,             /* Responses without a request: joined in the middle of a call. */
  C_CONTENDED,           /* Segments that two CPUs held at once for too long. */
  C_TAIL_FAILED,         /* Segments with more parts than tail calls reach. */
  C_STORAGE_FAILED,      /* Sockets that got no state. */
  C_PORTS_FULL,
  C_RECORDS,             /* Records with calls = 1. */
  C_OVERFLOW,            /* Calls in `overflow`: their record or last event found its ring full. */
  C_HEADS,               /* Heads sent up although recognition is on: unknown, or a sample. */
  C_UNLEARNED,           /* Calls beyond the budget of heads: records with R_UNLEARNED. */
  C_SCRATCH_BUSY,        /* Heads not looked at because all scratch was in use. */
  C_AMBIGUOUS,           /* Requests of which programs may disagree where they end. */
  C_FRAMES,              /* Events of HTTP/2 submitted. */
  C_FRAMES_LOST,         /* Those that found their ring full. */
  C_STREAMS_LOST,        /* Streams that began in them: calls. */
  C_RAW_BYTES,           /* Bytes of HTTP/2 sent up as they are. */
  C_RAW_REFUSED,         /* Bytes that the kernel could not follow, beyond what may go up. */
  C_PEERS_FULL,          /* Connections to other hosts that found `peers` full. */
  C_HELLOS,              /* Handshakes of encrypted connections sent up. */
  C_HELLOS_REFUSED,      /* Those beyond the budget of heads. */
  C_BODIES,              /* Bodies that began to go up. */
  C_BODY_BYTES,          /* Their bytes. */
  C_BODIES_REFUSED,      /* Bodies that ended early, or never began, for the budget or a ring half full. */
  C_BODIES_LOST,         /* Pieces of bodies that found the ring full. */
  C_UPGRADES_UNTOLD,     /* Ends of upgraded connections that found the ring full: their bytes are in `ports` only. */
  C_BLOCKS_REFUSED,      /* Header blocks of HTTP/2 that stayed down: their ring was half full and their cgroup had had its share. */
  C_STOPS_LOST,          /* Connections to be reset that found their ring full. */
  C_MATCHED,             /* Calls of HTTP/2 that came as one record. */
  C_SHARES_SPENT,        /* Heads beyond the budget of a consumer or address that had had its share of it. */
  C_UNREAD,              /* Times that something was added to `unread`. */
  C_COUNT,
};

/* Why bytes of a client are of no call. */
enum unread_reason {
  UNREAD_POSITION = 1, /* Behind a fault or bytes that were missed: it is not known where the next request begins. */
  UNREAD_SEGMENT = 2,  /* Behind the last message that is read of a segment. */
  UNREAD_NOT_HTTP = 3, /* The first bytes of a connection are no request. */
  UNREAD_HEAD = 4,     /* Of a request head, past what is copied. */
};
#define UNREAD_REASONS 5

/* Whose they are. */
struct unread_key {
  u64 cgroup_id;  /* Of the server, as is `port`. */
  u8 address[16]; /* Of the client; IPv4 in the first four bytes. */
  u16 port;
  u8 family;
  u8 reason;
  u8 _pad[4];
};

struct unread_count {
  u64 calls; /* Answers that no request explains; of UNREAD_HEAD heads. */
  u64 bytes; /* That the client sent. */
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
  K_QUIC = 7, /* Of flows of datagrams; no connection has it. */
};

/* What is told of a listening port. */
struct port_key {
  u64 cgroup_id; /* Of the listener. */
  u16 port;
  u8 kind;
  u8 _pad[5];
};

/* What is told of another host that is called encrypted. */
struct peer_key {
  u64 cgroup_id;  /* Of the client. */
  u8 address[16]; /* IPv4 in the first four bytes. */
  u16 port;       /* The server's. */
  u8 family;
  u8 kind;
  u8 _pad[4];
};

struct port_count {
  u64 connections;
  u64 bytes;     /* Of both directions. */
  u64 late;      /* Connections that were open before the first packet of theirs was seen. */
  u64 calls;     /* Calls that ended. */
  u64 lost;      /* Calls that were counted and not told. */
  u64 exchanges; /* Encrypted: times that the server spoke after the client had asked. An estimate of the calls. */
};

#endif
