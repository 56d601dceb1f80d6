/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which socket a session of TLS is of. A session is an object of a library (SSL *, gnutls_session_t, *tls.Conn), and libraries need not know
 * about sockets. What its thread does with sockets meanwhile tells it, and so do, in some, the library's own data.
 */
#ifndef APIDAE_TLS_BIND_H
#define APIDAE_TLS_BIND_H

#include "scope.h"
#include "syscall_memory.h"
#include "syscall_socket.h"
#include "tls_events.h"

#define RECORD_OVERHEAD_MAX 96 /* Of header, padding, hash and number, in TLS 1.0 to 1.3. */
#define RECORD_BYTES 16384

/* An object of a process. */
struct session_key {
  u64 session;
  u32 process;
  u32 _pad;
};

struct session {
  struct syscall_conn seen; /* What its plain text turns out to be. */
  struct tcp_end end;
  u64 id;          /* Of its socket (cookie), or of its own. */
  u64 checked_ns;  /* When the library's data were looked at. */
  u32 position[2]; /* Plain bytes so far, by direction. */
  u8 bound, library, is_told;
  u8 is_other_told; /* S_OTHER was. */
  u32 look; /* `looks` of its process when it was seen last. */
  u32 refusals; /* `refusal_count` when it was looked up last. */
  u32 is_done;  /* A write was told at the first of two places. */
  u32 copied_by; /* Of which probes, of all processes or of one, the copy was that was told last: it is not told by both. */
  u64 copied_ns, copied_from, copied_at;
};

/* A thread in a call of a library, and what it did last. */
struct thread {
  u64 session;
  u64 memory;
  u64 result;   /* Where the call says how many bytes it moved; 0: it returns them. */
  u64 received; /* The socket from which it received last, outside of calls. */
  u32 unsent;   /* Plain bytes that it wrote since it sent anything. */
  u32 unsent_records;
  u8 kind;      /* enum syscall_event_kind; 0: in no call. */
  u8 library;
  u8 is_inner; /* The call returns as SSL_read does, though it says by `result` how much: 0 is the other end's end. */
  u8 depth;    /* Calls for handshakes within this one, which return where it does. */
  u32 look; /* `looks` of its process when the call began. */
  u64 sent; /* The socket to which it sent last, outside of calls, how much since it received or had written, and how much last. */
  u32 sent_bytes, sent_last;
};

/* What: sessions. Life: until the library frees them; the least recent is evicted, and then begins anew. */
BPF_TABLE("lru_hash", struct session_key, struct session, sessions, 32768);
/* What: threads that called a library. Life: the least recent is evicted. Key: thread group and thread. */
BPF_TABLE("lru_hash", u64, struct thread, threads, 16384);

#define LOOKS_SIZE 4096 /* A power of two. */

/* What: how often the sensor looked away from a process, its probes taken out. Of the sensor's making. Life: the program's. Key: the last bits
 * of the thread group: two processes may share a place, and then each loses what the other does. */
BPF_ARRAY(looks, u32, LOOKS_SIZE);

/* What: whether a process called a library that does not name its socket: then what its threads send and receive is looked at, of those that
 * called it and of others, which may be next. Life: the program's. Key: as of `looks`; a process that shares a place with one has its threads
 * looked at too. */
BPF_ARRAY(callers, u8, LOOKS_SIZE);

static __always_inline u8 *find_caller(void) {
  u32 place = (bpf_get_current_pid_tgid() >> 32) & (LOOKS_SIZE - 1);
  return callers.lookup(&place);
}

/* What is known of this thread; 0: nothing. */
static __always_inline struct thread *find_known_thread(void) {
  u8 *is_caller = find_caller();
  if (!is_caller || !*is_caller)
    return 0;
  u64 id = bpf_get_current_pid_tgid();
  return threads.lookup(&id);
}

static __always_inline u32 find_look(void) {
  u32 place = (bpf_get_current_pid_tgid() >> 32) & (LOOKS_SIZE - 1), *look = looks.lookup(&place);
  return look ? *look : 0;
}

static __always_inline struct session *find_session(u64 session, u8 library) {
  struct session_key key = {.session = session, .process = bpf_get_current_pid_tgid() >> 32};
  struct session *s = sessions.lookup(&key);
  if (s || !is_process_watched())
    return s;
  struct session fresh = {.id = bpf_ktime_get_ns() | 1ULL << 63, .library = library, .look = find_look()};
  fresh.seen.cgroup_id = bpf_get_current_cgroup_id(); /* Until its socket says better. */
  sessions.update(&key, &fresh);
  count(T_SESSIONS, 1);
  return sessions.lookup(&key);
}

/* This way says that the session is of that socket. */
static __always_inline void bind(struct session *s, u64 socket, u8 way) {
  struct tcp_end end = {};
  if (s->end.socket == socket && s->bound & way)
    return; /* As it said before: the session goes before its socket's place is used again. */
  if (!read_tcp(socket, &end))
    return;
  if (s->end.socket == end.socket && s->end.hash == end.hash) {
    s->bound |= way;
    return;
  }
  if (s->bound) {
    if (!(s->bound & B_MANY))
      count(T_MANY, 1);
    if ((s->bound & ~B_MANY) >= way) {
      s->bound |= B_MANY;
      return;
    }
    way |= B_MANY;
  }
  s->end = end;
  s->bound = way;
  u64 cgroup_id = read_cgroup_id(find_cgroup(socket));
  if (cgroup_id)
    s->seen.cgroup_id = cgroup_id;
  u64 cookie = read_word(socket + O_SOCK_COOKIE);
  if (cookie && !s->is_told)
    s->id = cookie;
}

/* The descriptor in OpenSSL's BIO of a socket; -1 where it has none. BIOs that are not sockets have other types, so that it is safe to try. */
#define BIO_SOCKET 0x505

static __always_inline int read_bio(u64 bio, u64 method_at, u64 number_at) {
  u64 method = 0;
  int type = 0, number = -1;
  if (read_user(&method, 8, (void *)(bio + method_at)) || read_user(&type, 4, (void *)method) || type != BIO_SOCKET)
    return -1;
  read_user(&number, 4, (void *)(bio + number_at));
  return number;
}

/* struct ssl_st: rbio is at 0x10 in 1.1 and 3.0 and 3.1, at 0x48 in 3.2, at 0x50 after it (ssl/ssl_local.h of each). struct bio_st begins with
 * its method in 1.1 and with its context in 3; `num` is at 0x30 and 0x38 (crypto/bio/bio_local.h). */
static __always_inline int read_openssl(u64 ssl) {
  const u64 places[] = {0x10, 0x48, 0x50};
#pragma unroll
  for (u32 i = 0; i < 3; i++) {
    u64 bio = 0;
    if (read_user(&bio, 8, (void *)(ssl + places[i])) || !bio)
      continue;
    int number = read_bio(bio, 8, 0x38);
    if (number < 0 && i == 0)
      number = read_bio(bio, 0, 0x30);
    if (number >= 0)
      return number;
  }
  return -1;
}

/* *tls.Conn: `conn` is an interface whose data are *net.TCPConn, which holds *net.netFD, whose `Sysfd` is at 16 (since Go 1.9). */
static __always_inline int read_go(u64 conn) {
  u64 tcp = 0, descriptor = 0;
  int number = -1;
  if (read_user(&tcp, 8, (void *)(conn + 8)) || read_user(&descriptor, 8, (void *)tcp))
    return -1;
  read_user(&number, 4, (void *)(descriptor + 16));
  return number;
}

/* By the library's own data, once a second. */
static __always_inline void bind_by_data(struct session *s, u64 session, u64 now) {
  if (s->checked_ns && now - s->checked_ns < 1000000000ULL)
    return;
  s->checked_ns = now;
  int number = -1;
  if (s->library == L_OPENSSL)
    number = read_openssl(session);
  else if (s->library == L_GO)
    number = read_go(session);
  struct tcp_end end = {};
  if (number >= 0 && find_tcp(number, &end))
    bind(s, end.socket, B_DATA);
}

/* Raw tracepoints sock:sock_send_length and sock:sock_recv_length (Linux 6.3): the socket, and what the call gives. */
static __always_inline void see_socket(u64 socket, long moved, u8 kind) {
  if (moved <= 0)
    return;
  u8 *is_caller = find_caller();
  if (!is_caller || !*is_caller)
    return;
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (!t) {
    if (kind == S_READ) {
      struct thread fresh = {.received = socket}; /* A pool gives a connection's first call to a thread that is new. */
      threads.update(&id, &fresh);
    }
    return;
  }
  if (t->kind && t->look == find_look()) {
    struct session *s = find_session(t->session, t->library);
    if (s)
      bind(s, socket, B_NESTED);
    return;
  }
  if (kind == S_READ) {
    t->received = socket;
    t->sent = 0;
    return;
  }
  t->sent_bytes = t->sent == socket ? t->sent_bytes + moved : moved;
  t->sent_last = moved;
  t->sent = socket;
  u64 unsent = t->unsent, most = unsent + (u64)t->unsent_records * RECORD_OVERHEAD_MAX;
  t->unsent = 0;
  t->unsent_records = 0;
  if (!unsent || moved <= unsent || moved > most)
    return;
  t->sent = 0;
  struct session *s = find_session(t->session, t->library);
  if (s)
    bind(s, socket, B_NEXT);
}

#endif
