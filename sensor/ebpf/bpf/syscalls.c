/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Sees what processes read from and write to their TCP sockets: the fallback where programs cannot be attached to cgroup v2.
 *
 * Hooks: the raw tracepoints sys_exit (4.17), where arguments, result and the process's memory are all at hand, and inet_sock_set_state
 * (4.16). Not seen: what io_uring moves. Counted and not read: sendfile and splice.
 *
 * The socket of a file descriptor is found in the kernel's own tables at each call, so nothing here need follow dup, fork, exec or descriptors
 * passed between processes. Offsets of fields (O_*) come from the kernel's BTF (sensor/ebpf/tracepoints.py). Positions are TCP's own numbers: what
 * other ways moved shows as a gap.
 */
#include <uapi/linux/bpf.h>
#include "constants.h"
#include "events.h"
#include "syscall_events.h"
#include "syscall_socket.h"
#include "scope.h"
#include "syscall_copy.h"
#include "syscall_judge.h"

/* What: connections. Life: the socket's; the least recent is evicted. */
BPF_TABLE("lru_hash", struct syscall_key, struct syscall_conn, conns, 65536);
/* What: connections and bytes by listening port and kind. Life: the program's; past its size counted. */
BPF_HASH(ports, struct port_key, struct port_count, 8192);
/* What: 1 for each listening port, kept by the sensor. Key: the port. */
BPF_ARRAY(listening, u8, 65536);

static __always_inline void count_port(struct syscall_conn *c, u32 port, u64 bytes) {
  u8 *is_listening = listening.lookup(&port);
  if (!((c->kind == K_HTTP || c->kind == K_HTTP2) && c->is_server) && (!is_listening || !*is_listening))
    return;
  struct port_key key = {.cgroup_id = c->cgroup_id, .port = port, .kind = c->kind};
  struct port_count *value = ports.lookup(&key);
  if (!value) {
    struct port_count zero = {};
    ports.insert(&key, &zero);
    value = ports.lookup(&key);
  }
  if (!value) {
    count(Z_PORTS_FULL, 1);
    return;
  }
  if (!c->is_counted) {
    c->is_counted = 1;
    __sync_fetch_and_add(&value->connections, 1);
  }
  __sync_fetch_and_add(&value->bytes, bytes);
}

/* 0: its socket is of a cgroup that is not watched. */
static __always_inline struct syscall_conn *find_conn(struct tcp_end *end) {
  struct syscall_key key = {.socket = end->socket, .hash = end->hash};
  struct syscall_conn *c = conns.lookup(&key);
  if (c)
    return c;
  u64 cgroup = find_cgroup(end->socket);
  if (!is_watched(cgroup))
    return 0;
  struct syscall_conn fresh = {.cgroup_id = read_cgroup_id(cgroup)};
  conns.update(&key, &fresh);
  return conns.lookup(&key);
}

/* A splice has a pipe at one end: `other_fd` is its other one, which is written to. */
static __always_inline void see(struct message *m, u32 fd, u32 other_fd, u8 kind) {
  struct tcp_end end = {};
  if (!find_tcp(fd, &end)) {
    if (fd == other_fd || !find_tcp(other_fd, &end))
      return;
    kind = S_WRITE;
  }
  struct syscall_conn *c = find_conn(&end);
  if (!c)
    return;
  u32 direction = kind == S_WRITE;
  if (kind == S_EOF) {
    if (is_read(c->kind))
      send_state(&end, c->cgroup_id, kind);
    return;
  }
  int may_be = is_read(c->kind);
  if (c->kind == K_NEW)
    may_be = recognise(c, &end, m, direction);
  if (c->kind != K_NEW && c->kind != K_LOCAL_CLIENT)
    count_port(c, end.local_port, m->size);
  if (may_be && (!is_read(c->kind) || is_granted(c, m, direction, bpf_ktime_get_ns())))
    send(m, &end, c->cgroup_id, kind);
}

int sys_exit(struct bpf_raw_tracepoint_args *ctx) {
  long moved = ctx->args[1];
  if (moved < 0)
    return 0;
  u64 registers = ctx->args[0];
  u32 number = read_number(registers + O_CALL_NUMBER);
  if (number > NR_RECVMSG && number != NR_SPLICE)
    return 0;
  u8 kind, way = WAY_BUFFER;
  if (number == NR_READ || number == NR_RECVFROM)
    kind = S_READ;
  else if (number == NR_WRITE || number == NR_SENDTO)
    kind = S_WRITE;
  else if (number == NR_READV || number == NR_WRITEV)
    kind = number == NR_READV ? S_READ : S_WRITE, way = WAY_VECTOR;
  else if (number == NR_RECVMSG || number == NR_SENDMSG)
    kind = number == NR_RECVMSG ? S_READ : S_WRITE, way = WAY_MESSAGE;
  else if (number == NR_SENDFILE || number == NR_SPLICE)
    kind = number == NR_SENDFILE ? S_WRITE : S_READ, way = WAY_UNSEEN;
  else
    return 0;
  if ((read_word(registers + O_MODE) & MODE_MASK) == MODE_COMPAT)
    return 0; /* 32-bit programs number their calls in another way. */
  u64 fd = read_word(registers + O_ARGUMENT_0), size = read_word(registers + O_ARGUMENT_2);
  if (!moved && (kind != S_READ || way == WAY_UNSEEN || (!size && number != NR_RECVMSG)))
    return 0; /* Else the other end sends no more. */
  if ((number == NR_RECVFROM && read_word(registers + O_ARGUMENT_3) & MSG_PEEK) || (number == NR_RECVMSG && size & MSG_PEEK))
    return 0;
  struct message m = {.memory = read_word(registers + O_ARGUMENT_1), .size = moved, .count = size, .way = V(way)};
  see(&m, fd, number == NR_SPLICE ? size : fd, moved ? V(kind) : S_EOF);
  return 0;
}

#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9

int inet_sock_set_state(struct bpf_raw_tracepoint_args *ctx) {
  u64 socket = ctx->args[0];
  int state = ctx->args[2];
  if (state != TCP_FIN_WAIT1 && state != TCP_CLOSE && state != TCP_LAST_ACK)
    return 0;
  struct syscall_key key = {.socket = socket, .hash = read_hash(socket)};
  struct syscall_conn *c = conns.lookup(&key);
  if (!c)
    return 0;
  struct tcp_end end = {};
  if (is_read(c->kind) && read_tcp(socket, &end))
    send_state(&end, c->cgroup_id, state == TCP_CLOSE ? S_CLOSED : S_SHUT);
  if (state != TCP_CLOSE)
    return 0;
  if (c->kind == K_NEW && c->last) {
    c->kind = K_OTHER;
    count_port(c, end.local_port, 0);
  }
  conns.delete(&key);
  return 0;
}
