/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * rustls 0.23, where its symbols remain. Two methods of CommonState see all plain text (rustls/src/common_state.rs): take_received_plaintext, and
 * buffer_plaintext, which returns how much of it was taken. Neither knows a socket, and the object moves to another address once its handshake is
 * over, often with a request in it. So a session's number is its socket here: what the thread received from just before it took plain text.
 */
#ifndef APIDAE_TLS_RUST_H
#define APIDAE_TLS_RUST_H

#define PARTS_MAX 2 /* Of a vectored write: a head and a body. What comes behind them is a gap. */

/* What: the socket from which plain text of an object came last. Life: until the object is dropped; the least recent is evicted. */
BPF_TABLE("lru_hash", struct session_key, u64, rust_sockets, 16384);

/* Whether the socket is still that of its session: the kernel uses a closed one's memory again. */
static __always_inline int is_same(struct session *s, u64 socket) {
  struct sock_begin begin = {};
  read_kernel(&begin, sizeof(begin), (void *)(socket + O_SOCK_BEGIN));
  return begin.hash == s->end.hash && begin.local_port == s->end.local_port && begin.remote_port == bpf_htons(s->end.remote_port);
}

/* The session of an object, by its socket; where nobody knows that yet, by the object. */
static __always_inline struct session *find_rust_session(u64 object, struct thread *t, u8 kind) {
  struct session_key key = {.session = object, .process = bpf_get_current_pid_tgid() >> 32}, of = key;
  u64 *known = rust_sockets.lookup(&key), socket = t->received;
  if (known && (kind == S_WRITE || !socket)) {
    of.session = *known;
    struct session *s = sessions.lookup(&of);
    if (s && is_same(s, of.session)) {
      t->session = of.session;
      return s;
    }
  }
  if (!socket) {
    t->session = object;
    return find_session(object, L_RUSTLS);
  }
  of.session = t->session = socket;
  struct session *s = sessions.lookup(&of), *early = sessions.lookup(&key);
  if (s && s->bound && !is_same(s, socket)) {
    put_state(s, S_CLOSED);
    sessions.delete(&of);
  } else if (!s && early) { /* It was told before anybody knew its socket. */
    sessions.update(&of, early);
    sessions.delete(&key);
  }
  rust_sockets.update(&key, &socket);
  s = find_session(socket, L_RUSTLS);
  if (s && !s->bound)
    bind(s, socket, B_LAST);
  return s;
}

/* CommonState::take_received_plaintext(&mut self, Payload): vector or slice, the address and the length are at the same places. */
int rust_read(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  struct thread *t = find_thread();
  u64 bytes[3] = {};
  if (!t || read_user(bytes, sizeof(bytes), (void *)ctx->si) || !bytes[2] || bytes[2] > RECORD_BYTES)
    return 0;
  t->kind = 0;
  u64 now = bpf_ktime_get_ns();
  struct session *s = find_rust_session(ctx->di, t, S_READ);
  if (!s || is_told_twice(s, ctx, find_cookie(ctx) & OWN_PROBES, now))
    return 0;
  look_again(s, find_look());
  see_bytes(s, bytes[1], bytes[2], S_READ, now);
  return 0;
}

/* CommonState::buffer_plaintext(&mut self, OutboundChunks, ..): one slice, or else the address of the slices comes first. */
int rust_write(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  struct thread *t = find_thread();
  u64 chunks[2] = {};
  if (!t || read_user(chunks, sizeof(chunks), (void *)ctx->si))
    return 0;
  t->kind = S_WRITE;
  t->library = L_RUSTLS;
  t->result = ctx->di;
  t->is_inner = chunks[0] != 0;
  t->memory = t->is_inner ? chunks[0] : chunks[1];
  t->look = find_look();
  return 0;
}

int rust_return(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (!t || t->kind != S_WRITE || t->library != L_RUSTLS)
    return 0;
  t->kind = 0;
  u64 moved = ctx->ax, memory = t->memory;
  if (t->look != find_look() || !moved || moved > 0x7fffffff)
    return 0;
  struct session *s = find_rust_session(t->result, t, S_WRITE);
  if (!s)
    return 0;
  t->unsent += moved;
  t->unsent_records += 1 + moved / RECORD_BYTES;
  look_again(s, t->look);
  struct vector part = {.base = memory, .size = moved};
  for (u32 i = 0; i < PARTS_MAX && moved; i++) {
    if (t->is_inner && read_user(&part, sizeof(part), (void *)(memory + i * sizeof(part))))
      break;
    if (part.size > moved)
      part.size = moved;
    moved -= part.size;
    if (part.size)
      see_bytes(s, part.base, part.size, S_WRITE, bpf_ktime_get_ns());
  }
  s->position[1] += moved;
  return 0;
}

/* The end of an object, if it is not within another function. */
int rust_drop(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  struct session_key key = {.session = ctx->di, .process = bpf_get_current_pid_tgid() >> 32};
  u64 *known = rust_sockets.lookup(&key);
  if (known)
    end(*known, S_CLOSED);
  rust_sockets.delete(&key);
  end(ctx->di, S_CLOSED);
  return 0;
}

#endif
