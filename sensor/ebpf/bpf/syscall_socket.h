/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From a file descriptor of the running process to the TCP socket behind it, by the kernel's own tables. Every read may fail and then gives
 * "no socket"; offsets are build constants (sensor/ebpf/tracepoints.py).
 */
#ifndef APIDAE_SYSCALL_SOCKET_H
#define APIDAE_SYSCALL_SOCKET_H

#include "reads.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOCK_STREAM 1

/* This end of a connection. */
struct tcp_end {
  u64 socket;
  u32 hash;
  u32 read_next;  /* TCP's number of the next byte that the process will read, and will write. */
  u32 write_next;
  u16 family, local_port, remote_port, _pad;
  u32 _aligned;
  u8 local_address[16], remote_address[16];
};

/* What struct sock begins with (include/net/sock.h, struct sock_common): addresses, hash and ports. */
struct sock_begin {
  u32 remote, local, hash;
  u16 remote_port, local_port, family;
  u8 state, reuse;
};

static __always_inline u64 read_word(u64 address) {
  u64 value = 0;
  read_kernel(&value, sizeof(value), (void *)address);
  return value;
}

static __always_inline u32 read_number(u64 address) {
  u32 value = 0;
  read_kernel(&value, sizeof(value), (void *)address);
  return value;
}

static __always_inline u32 read_hash(u64 socket) { return read_number(socket + O_SOCK_BEGIN + __builtin_offsetof(struct sock_begin, hash)); }

/* Reads a connected TCP socket; 0 where it is none. */
static __always_inline int read_tcp(u64 socket, struct tcp_end *end) {
  struct sock_begin begin = {};
  if (read_kernel(&begin, sizeof(begin), (void *)(socket + O_SOCK_BEGIN)) || !begin.remote_port)
    return 0;
  if (begin.family != AF_INET && begin.family != AF_INET6)
    return 0;
  u16 protocol = 0;
  read_kernel(&protocol, sizeof(protocol), (void *)(socket + O_SOCK_PROTOCOL));
  if (PROTOCOL_IS_BYTE)
    protocol &= 0xff;
  if (protocol != IPPROTO_TCP)
    return 0;
  end->socket = socket;
  end->hash = begin.hash;
  end->local_port = begin.local_port; /* 0 by the time the socket closes. */
  end->remote_port = bpf_ntohs(begin.remote_port);
  end->family = begin.family == AF_INET ? 4 : 6;
  if (begin.family == AF_INET) {
    __builtin_memcpy(end->local_address, &begin.local, 4);
    __builtin_memcpy(end->remote_address, &begin.remote, 4);
  } else {
    read_kernel(end->local_address, 16, (void *)(socket + O_SOCK_LOCAL6));
    read_kernel(end->remote_address, 16, (void *)(socket + O_SOCK_REMOTE6));
  }
  end->read_next = read_number(socket + O_TCP_COPIED);
  end->write_next = read_number(socket + O_TCP_WRITTEN);
  return 1;
}

/* The TCP socket that a descriptor of this process names; 0 where it names none. */
static __always_inline int find_tcp(u32 fd, struct tcp_end *end) {
  u64 table = read_word(read_word(bpf_get_current_task() + O_TASK_FILES) + O_FILES_TABLE);
  if (!table || fd >= read_number(table + O_TABLE_MAX))
    return 0;
  u64 file = read_word(read_word(table + O_TABLE_FILES) + 8 * (u64)fd);
  if (!file)
    return 0;
  u64 socket = read_word(file + O_FILE_PRIVATE);
  /* Only a socket's private data points back at the file in this place. */
  if (!socket || read_word(socket + O_SOCKET_FILE) != file)
    return 0;
  u16 type = 0;
  read_kernel(&type, sizeof(type), (void *)(socket + O_SOCKET_TYPE));
  if (type != SOCK_STREAM)
    return 0;
  u64 sock = read_word(socket + O_SOCKET_SOCK);
  return sock && read_tcp(sock, end);
}

/* The address of the cgroup v2 in which the socket was created; 0 where it has none. */
static __always_inline u64 find_cgroup(u64 socket) {
  u64 cgroup = read_word(socket + O_SOCK_CGROUP);
  return cgroup & 3 ? 0 : cgroup; /* Before 5.15 the place may hold numbers of cgroup v1. */
}

/* The number of a cgroup, by its address; 0 of none. */
static __always_inline u64 read_cgroup_id(u64 cgroup) {
  return cgroup ? read_word(read_word(cgroup + O_CGROUP_NODE) + O_NODE_ID) : 0;
}

static __always_inline int is_loopback(struct tcp_end *end) {
  if (end->family == 4)
    return end->remote_address[0] == 127;
  u64 *words = (u64 *)end->remote_address;
  if (words[0])
    return 0;
  return words[1] == 1ULL << 56 || (end->remote_address[10] == 0xff && end->remote_address[12] == 127);
}

#endif
