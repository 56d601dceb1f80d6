/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What crosses from syscalls.c to the sensor. Twins: sensor/ebpf/abi.py.
 */
#ifndef APIDAE_SYSCALL_EVENTS_H
#define APIDAE_SYSCALL_EVENTS_H

enum syscall_event_kind {
  S_READ = 1,  /* Bytes that the process received. */
  S_WRITE = 2, /* Bytes that it sent. */
  S_EOF = 3,   /* It read that the other end sends no more. */
  S_SHUT = 4,  /* This end sends no more. */
  S_CLOSED = 5,/* The socket is gone. */
  S_CUT = 6,   /* Of TLS: here something is missing, nobody knows how much, for nobody looked. */
  S_OTHER = 7, /* Of TLS: the first bytes that a session received when it had turned out not to be HTTP. */
};

/* One system call that moved bytes of a connection, or a change of its state. Its first `length` bytes follow. */
struct syscall_event {
  u64 time_ns;
  u64 socket;    /* Of all open sockets no other has this number; another may have it later. */
  u64 cgroup_id; /* In which the socket was created. */
  u32 sequence;  /* TCP's number of the first byte. */
  u32 other;     /* TCP's number of the byte that comes next in the other direction. */
  u32 size;      /* Bytes that were moved. */
  u32 length;    /* Of them, in `data`. */
  u32 hash;      /* As in struct syscall_key. */
  u16 local_port;
  u16 remote_port;
  u8 kind;
  u8 family;     /* 4 or 6; 0: not known yet which socket it is. */
  u8 bound;      /* Of TLS: enum tls_binding. */
  u8 library;    /* Of TLS: enum tls_library. */
  u32 process;   /* Thread group that moved the bytes. */
  u8 local_address[16];
  u8 remote_address[16];
  u8 data[];
};

enum syscall_counter {
  Z_EVENTS = 0,
  Z_EVENTS_LOST,  /* The ring was full. */
  Z_UNREADABLE,   /* Events whose bytes the kernel could not read from the process. */
  Z_REFUSED,      /* Calls beyond the budget: nothing of them went up. */
  Z_UNCOPIED,     /* Bytes that moved without being seen: sendfile, splice, and what is past the limit of an event. */
  Z_LOCAL_CLIENTS,/* Client ends left to their server end on this node. */
  Z_PORTS_FULL,
  Z_COUNT,
};

/* Of a process, in the map `accounts`: when its calls so far, and those of its reserve, would be paid for, and how many it made, paid or not. */
struct account {
  u64 paid_ns;
  u64 reserve_ns;
  u64 calls;
  u64 breakpoints;
  u64 refused;
};

/* A connection. User space may say what one is when its socket's number is another connection's. */
struct syscall_key {
  u64 socket;
  u32 hash; /* Of its addresses and ports, as the kernel computes it. */
  u32 _pad;
};

/* What is known of a connection; of the sensor's own making where user space says what it is. */
struct syscall_conn {
  u64 begun[2]; /* The first bytes of the message in hand, by direction. */
  u64 cgroup_id;
  u8 begun_size[2];
  u8 kind;      /* enum conn_kind. */
  u8 tries;
  u8 last;      /* Direction of the last message, 1 + enum. */
  u8 is_server; /* Where it is HTTP: requests come in. */
  u8 is_counted;
  u8 is_muted;  /* The call in hand is beyond the budget. */
};

#endif
