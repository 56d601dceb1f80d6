/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * State of one TCP connection, and the maps. Everything here dies with its socket (sk_storage) or is bounded and says how it evicts.
 */
#ifndef APIDAE_CONN_H
#define APIDAE_CONN_H

#include "events.h"
#include "http2_events.h"
#include "http_machine.h"

#define QUEUE_INLINE 4  /* Outstanding requests kept in the connection itself; a power of two. */
#define QUEUE_DEEP 128  /* More of them, in storage made on demand (15 KB of a socket's 20 before Linux 6.8); a power of two. Past it
                         * calls are counted, not told. */
#define WAIT_MAX 40     /* Segments ignored while a missing one is awaited. */
#define TRIES_MAX 8     /* Messages looked at before a connection is given up as not HTTP. */
#define METHOD_MAX 32   /* The longest registered method has 17 letters. */
#define REQUEST_COPY 262144 /* Of a head, within the budget of its bytes. As MAX_HEAD_BYTES of sensor/http/http1/stream.py. */
#define HEAD_PIECE 65536    /* Of a packet. */
#define HEAD_DEPOSIT 8192   /* What a head that comes in several packets pays for at first. */
#define RESPONSE_COPY 1024
#define PORT_FLUSH_BYTES (1 << 18)
#define PORT_FLUSH_CALLS 16
#define NO_PREALLOC 1 /* BPF_F_NO_PREALLOC: memory only for what is there. */

/* What a draft becomes where its call goes by records; beside enum event_kind. */
enum record_kind { E_RECORD = 5, E_RECORD_HEAD = 6 };

enum direction { INGRESS = 0, EGRESS = 1 };

/* One outstanding request. */
struct call {
  u64 done; /* Ends seen, of request and response; whoever makes it 2 tells the call. */
  u64 request_time_ns;
  u64 response_time_ns;
  u64 end_time_ns;
  u64 request_bytes;
  u64 response_bytes;
  u64 is_told; /* Of CALL_RECORD: a record counts the call already. */
  u64 actor;   /* From here as in struct call_record, where it was recognised. */
  u64 object;
  u64 object_number;
  u64 unseen;  /* Of its leaf: bits of body_class() whose bodies are wanted at once. */
  u32 leaf_node;
  u32 leaf_has_slash;
  u64 credential;
  u32 route;
  u32 profile;
  u32 number;
  u16 status;
  u8 flags;
  u8 is_list; /* It asks an MCP server what it has: the answer may be long. */
};

enum call_flag {
  CALL_NO_BODY = 1,
  CALL_CONNECT = 2,
  CALL_LOSSY = 4,
  CALL_RECORD = 8, /* No head went up: told by records. */
  CALL_SUSPICIOUS = 16,
  CALL_ANSWERED = 32, /* Its response's head went up: should its end be lost, user space tells the call nevertheless. */
  CALL_AMBIGUOUS = 64,
  CALL_BODY = 128,    /* Its bodies may go up; of CALL_RECORD: its response's did. */
};

/* Why a packet ends its connection. */
enum closing { CLOSE_NOT = 0, CLOSE_FIN = 1, CLOSE_RESET = 2 };

/* What a step begins with (unread.h). In memory, since the verifier would follow the step once for each value of it. */
struct before_step {
  u32 offset;
  u32 untold;
  u8 state;
  u8 kind;
  u8 tries;
  u8 _pad;
};

/* What of the next packets goes up: the body, or the end of it (bodies.h). */
enum copying { COPY_NOT = 0, COPY_BODY = 1, COPY_END = 2 };

/* One direction. Only the holder of `busy` touches it. */
struct flow {
  u64 busy;
  u64 left;     /* Bytes of the framed part that are still to come. */
  u64 bytes;    /* Of the message so far; of interim responses and the final one together. */
  u64 first_ns; /* First byte of the message. */
  u64 unflushed;/* Bytes not yet in `ports`. */
  u64 body;     /* Body bytes of the message so far. */
  struct parse parse;
  u32 next;     /* Sequence number expected. */
  u32 high;     /* Highest sequence end that was ignored while waiting. */
  u32 fin_at;
  u32 offset;   /* Where the next byte is in the packet in hand. */
  u32 head_from;/* Where the head's part in this packet begins. */
  u32 copied;   /* Bytes of this head sent up so far. */
  u8 seen, waiting, filling, fin;
  u8 is_response;
  u8 is_told;   /* A part of this head has been sent up. */
  u8 is_active; /* The (final) head has been seen, the message goes on. */
  u8 is_untold; /* Its call is past the queue. */
  u8 is_tried;  /* `recognise` has seen the head that comes next. */
  u8 is_muted;  /* This head is beyond the budget: no part of it goes up. */
  /* The event that the step in hand asks for; kind 0: none. */
  u8 draft_kind, draft_flags;
  /* What `recognise` found in a head that it leaves to `walk`. */
  u8 is_paid;  /* The budget was asked. */
  u8 is_suspicious;
  u8 parts;     /* Of its cgroup's budget, what this head may fill (consumer.h). */
  u8 looks;     /* Heads of this packet that `recognise` has looked at. */
  u8 runs;      /* Programs that were called for this packet. */
  u16 messages; /* That began in this packet. */
  u32 from;     /* Where its first byte that is new lies. */
  u32 mean;     /* Bytes of a response, where the position was lost last among many. */
  u8 draft_role;
  u8 is_due;    /* A record for the response in hand, if it does not end within the packet. */
  u8 preface;   /* Bytes of HTTP/2's preface that were in the packets before. */
  u64 is_counted; /* The call in the draft is counted by an earlier record. */
  u64 profile;
  u64 host;
  u64 credential;
  u64 consumer; /* Who sent it, as far as its lines tell; 0: not known. */
  u32 draft_call;
  u32 draft_from; /* Packet offset of its data. */
  u32 draft_size;
  /* Of the message in hand, where its body goes up (bodies.h). */
  u64 body_route;    /* Of a recognised call. */
  u32 body_call;
  u32 body_from;     /* Where the body begins in the packet of its head. */
  u32 body_sequence; /* The same as a sequence number. */
  u32 piece_from;    /* What is to be copied of the packet in hand. */
  u32 piece_size;
  u32 piece_position;
  u32 body_most;     /* Bytes of it that go up, but for its end. */
  u8 is_wanted;      /* The head in hand is to be followed by its body. */
  u8 is_copied;      /* enum copying: more of it goes up with the next packet. */
  u8 is_begun;       /* One began in this packet: each takes tail calls from those that `walk` may need. */
  u8 is_noted;       /* It was counted, and so was its class. */
  u8 body_class;
  u8 ends_sent;      /* Of the response in hand, whose beginning is copied. */
  struct before_step before;
  union {
    u8 window[WINDOW + 8]; /* What the machine reads. */
    struct http_event event; /* What is told then. In memory: on the stack the verifier would follow the ring's sizes once for each content. */
  };
};

#define END_BYTES 1024 /* Of each packet at the end of a body. */
#define ENDS_KEPT 4    /* A power of two: what counts the tokens of a stream, two that end it, and the last chunk come in a packet each. */

/* The last packets of a response of which no more is copied. */
struct body_end {
  u32 position; /* As of struct http_event. */
  u32 size;
  u8 data[END_BYTES];
};

struct body_ends {
  u64 count; /* Of the response in hand. */
  struct body_end ends[ENDS_KEPT];
};

struct conn {
  struct flow flow[2];
  u64 id;
  u64 cgroup_id;
  u64 peer_cgroup_id;
  u32 head;       /* Requests pushed. */
  u32 tail;       /* Calls ended. */
  u32 deep_from;  /* First call kept in `deep`. */
  u32 overflow;   /* Requests past the queue, in order after all pushed ones. */
  u16 local_port;
  u16 remote_port;
  u8 kind;
  u8 request_direction;
  u8 tries;
  u8 last_direction; /* 1 + direction of the last segment with data; 0: none. */
  u8 is_deep;
  u8 is_counted;     /* In `ports`. */
  u8 is_lookup_done; /* The other end was looked for on this node. */
  u8 is_closed;
  u8 stream_flags; /* HTTP/2: enum stream_flag. */
  u8 frame_looks;  /* Packets that were looked at for frames. */
  u8 frame_signs;  /* Of those, that could have been one. */
  u8 is_late;        /* Was open before its first packet was seen. */
  /* Encrypted connections (encrypted.h). Each is set by one direction only. */
  u8 is_client_known; /* The client's hello was seen: `request_direction` holds. */
  u8 is_hello_told;
  u8 is_answered;    /* The server's hello was seen. */
  u8 tls_flags;      /* enum tls_flag. */
  u8 is_pending;     /* The client has asked, the server has not spoken since. */
  u8 is_spoken;      /* The server has spoken since the client's handshake was over. */
  u8 is_websocket;   /* It carries no calls any more: its turns are not counted. Of either direction. */
  u32 calls_counted; /* Of `tail`, those in `ports`. */
  u32 untold;        /* Calls past the queue that ended. */
  u32 untold_counted;
  u64 exchanges;     /* Not yet in `ports`. */
  u64 asked_ns;      /* When the client spoke last that waits for an answer; 0: nobody wants to know (waits.h). */
  /* Enforcement (enforce.h). */
  u64 stop_generation; /* In which the peer was judged. */
  u64 stop_told_ns;    /* No event before. */
  u32 stop_slot;       /* Blocked by this verdict; 0: not. */
  u32 stop_counted;    /* The last one that counted this connection. */
  u8 stop_kind;        /* enum stop_kind, of `stop_counted`. */
  u8 is_spared;        /* Its peer is never blocked. */
  u8 is_blind;         /* Bytes of the client were passed over: there may be requests among them. */
  u8 is_tunnel;        /* An upgrade was granted (101, CONNECT), and no answer since says what follows: HTTP/1 as long as it reads so. */
  u32 lost;            /* As of struct frames_event. */
  struct unread_count unread[UNREAD_REASONS]; /* Not yet in the map `unread` (unread.h), by enum unread_reason. */
  u64 is_unread;       /* There is something. */
  struct call calls[QUEUE_INLINE];
};

struct deep {
  struct call calls[QUEUE_DEEP];
};

/* What: state of each TCP connection that carried data. Life: its socket's. Key: the socket. */
BPF_SK_STORAGE(conns, struct conn);
/* What: calls past QUEUE_INLINE. Life: its socket's. Key: the socket. */
BPF_SK_STORAGE(deeps, struct deep);
/* What: the end of a sample's response that is longer than what is copied. Life: its socket's. Key: the socket. */
BPF_SK_STORAGE(body_ends, struct body_ends);
/* What: connections whose first data arrived on the listening socket (TCP_DEFER_ACCEPT, a lost handshake ACK). Life: until the child
 * socket takes it over; the least recent is evicted. Key: hash of addresses and ports, client to server. */
BPF_TABLE("lru_hash", u64, struct conn, deferred, 1024);
/* What: an empty connection to start one of `deferred` from. Life: the program's. Key: 0. */
BPF_ARRAY(blank, struct conn, 1);
/* What: client ends of connections on this node. Life: the least recent is evicted. Key: as `deferred`; user space makes it too
 * (sensor/ebpf/hashes.py), to know the client's socket. */
BPF_TABLE("lru_hash", u64, struct client_end, clients, 16384);
/* What: connections whose server end is on this node. Life and key: as `clients`. */
BPF_TABLE("lru_hash", u64, u8, servers, 16384);
/* What: the HTTP/1 table. Life: the program's, written once by the loader. Key: 0. */
BPF_ARRAY(machines, struct machine, 1);
/* What: programs for tail calls. Key: enum program. */
BPF_PROG_ARRAY(programs, 19);
/* What: events to the sensor. A ring gets its size when it is made: `Build.rings` in sensor/ebpf/compile.py. */
BPF_RINGBUF_OUTPUT(events, 1);
/* What: records of the calls that were recognised, and of those beyond the budget. */
BPF_RINGBUF_OUTPUT(records, 1);
/* What: enum counter. */
BPF_ARRAY(counters, u64, 64);
/* What: what was seen of each listening port, by cgroup and kind. Life: the program's; past its size counted in C_PORTS_FULL. */
BPF_HASH(ports, struct port_key, struct port_count, 8192);
/* What: HTTP/2, to the sensor. */
BPF_RINGBUF_OUTPUT(frames, 1);
/* What: what was seen of each other host that is called encrypted. Life: the program's; past its size counted in C_PEERS_FULL. */
BPF_F_TABLE("hash", struct peer_key, struct port_count, peers, 8192, NO_PREALLOC);
/* What: clients' ends of encrypted connections that carry no calls any more (WebSockets), by the sensor, which read the upgrade. Life: until
 * the connection is counted next; the least recent is evicted. Key: its `kind` is K_UPGRADED, its `port` the client's. */
BPF_TABLE("lru_hash", struct peer_key, u8, websockets, 1024);
/* What: 1 for each listening port, kept by the sensor. Key: the port; 0, which is none, has 1 once the sensor has said which ports are. */
BPF_ARRAY(listening, u8, 65536);

enum program {
  PROGRAM_WALK,
  PROGRAM_FINISH,
  PROGRAM_WALK_DEFERRED,
  PROGRAM_RECOGNISE,
  PROGRAM_ANSWER,
  PROGRAM_FOLLOW_FRAMES,
  PROGRAM_COPY_FRAMES,
  PROGRAM_ENCRYPTED,
  PROGRAM_DATAGRAM,
  PROGRAM_BODY,
  PROGRAM_UPGRADED,
  PROGRAM_ROUTE,
  PROGRAM_GUARD,
  PROGRAM_GUARD_STREAMS,
  PROGRAM_INGRESS, /* Again, behind `guard` or `report_unread`. */
  PROGRAM_MATCH_STREAMS,
  PROGRAM_SKIM,
  PROGRAM_EGRESS, /* As PROGRAM_INGRESS. */
  PROGRAM_REPORT_UNREAD,
};

static __always_inline void count_many(u32 counter, u64 n) {
  u64 *value = counters.lookup(&counter);
  if (value)
    __sync_fetch_and_add(value, n);
}

static __always_inline void count(u32 counter) { count_many(counter, 1); }

/* The slot of call `number`; 0 where there is none. */
static __always_inline struct call *slot(struct bpf_sock *sk, struct conn *c, u32 number) {
  if (V(c->is_deep) && (s32)(number - V(c->deep_from)) >= 0) {
    struct deep *deep = deeps.sk_storage_get(sk, 0, 0);
    if (!deep)
      return 0;
    asm volatile("" : "+r"(deep)); /* Else clang adds before it tests, which the verifier refuses. */
    return &deep->calls[number & (QUEUE_DEEP - 1)];
  }
  return &c->calls[number & (QUEUE_INLINE - 1)];
}

#endif
