/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * OpenSSL 3 seen within: at places of ssl3_read_bytes and ssl3_write_bytes that sensor/tls/openssl.py finds, which each piece of data passes
 * once. A part of tls.c.
 */
#ifndef APIDAE_TLS_OPENSSL_H
#define APIDAE_TLS_OPENSSL_H

/* Where an argument of a function is at a place within it: a register that calls leave as it is, or so far from the stack pointer. Twin:
 * sensor/tls/openssl.py, which packs up to four of them into the place's cookie. */
#define SPOT_STACK 0x4000
#define SPOT_BITS 15
#define OWN_PROBES (1ULL << 63) /* Of one process alone. */
#define FIRST_PLACE (1ULL << 60) /* The write that is told here passes another place. */
#define SECOND_PLACE (1ULL << 61)
#define APPLICATION_DATA 23     /* RFC 8446, 5.1 */
#define TWICE_NS 1000000        /* Two probes of a place run right behind each other; none goes within this after another came. */

/* The number keeps the compiler from making one load with a reckoned address of them, which the verifier refuses. */
#define READ_KEPT(number, name)                                                                                                            \
  if (spot == number) {                                                                                                                    \
    value = ctx->name;                                                                                                                     \
    asm volatile("" : "+r"(value) : "i"(number));                                                                                          \
  }

static __always_inline u64 read_spot(struct pt_regs *ctx, u64 cookie, u32 number) {
  u32 spot = cookie >> (number * SPOT_BITS) & ((1 << SPOT_BITS) - 1);
  u64 value = 0;
  if (spot & SPOT_STACK) {
    bpf_probe_read_user(&value, 8, (void *)(ctx->sp + (spot & ~SPOT_STACK)));
    return value;
  }
  READ_KEPT(1, bx);
  READ_KEPT(2, bp);
  READ_KEPT(3, r12);
  READ_KEPT(4, r13);
  READ_KEPT(5, r14);
  READ_KEPT(6, r15);
  return value;
}

static __always_inline u64 find_cookie(struct pt_regs *ctx) {
  return HAS_COOKIES ? bpf_get_attach_cookie(ctx) : 0;
}

/* While the sensor puts probes of its own into a process, a place has two: the second tells nothing. */
static __always_inline int is_told_twice(struct thread *t, struct pt_regs *ctx, u64 own) {
  u64 now = bpf_ktime_get_ns();
  int is_twice = t->copied_by == !own && t->copied_from == ctx->si && t->copied_at == ctx->sp && now - t->copied_ns < TWICE_NS;
  t->copied_by = is_twice ? 2 : !!own;
  t->copied_from = ctx->si;
  t->copied_at = ctx->sp;
  t->copied_ns = now;
  return is_twice;
}

/* Whether so much was sent for a write, in its records. */
static __always_inline int is_of(u32 sent, u32 moved) {
  return sent > moved && sent <= moved + (1 + moved / RECORD_BYTES) * RECORD_OVERHEAD_MAX;
}

/* Of a session whose library does not name its socket: the library sent this write just now, or the thread will send it next. */
static __always_inline void follow_write(struct session *s, struct thread *t, u64 session, u32 moved) {
  if (t->sent && (is_of(t->sent_last, moved) || is_of(t->sent_bytes, moved))) {
    if (!s->bound)
      bind(s, t->sent, B_LAST);
    return;
  }
  if (t->session != session) {
    t->unsent = 0;
    t->unsent_records = 0;
  }
  t->session = session;
  t->library = L_OPENSSL;
  t->unsent += moved;
  t->unsent_records += 1 + moved / RECORD_BYTES;
}

/* At the call of memcpy(buffer, data, length) by which a read gives data: one without any does not come here. */
int openssl_read_data(struct pt_regs *ctx) {
  u64 cookie = find_cookie(ctx);
  u32 moved = ctx->dx;
  /* Not for the handshake, and not to look at what is read later. */
  if (!moved || (u8)read_spot(ctx, cookie, 1) != APPLICATION_DATA || (u32)read_spot(ctx, cookie, 2))
    return 0;
  struct thread *t = find_thread();
  if (!t || is_told_twice(t, ctx, cookie & OWN_PROBES))
    return 0;
  struct thread here = {.session = read_spot(ctx, cookie, 0), .memory = ctx->si, .look = find_look()};
  struct session *s = find_session(here.session, L_OPENSSL);
  if (!s)
    return 0;
  bind_by_data(s, here.session, bpf_ktime_get_ns());
  if (!s->bound && t->received)
    bind(s, t->received, B_LAST);
  t->received = 0;
  take(s, &here, moved, S_READ);
  return 0;
}

/* The other end has said its last. */
int openssl_read_end(struct pt_regs *ctx) {
  end(read_spot(ctx, find_cookie(ctx), 0), S_EOF);
  return 0;
}

/* ssl3_write_bytes(ssl, type, buffer, length, written): of a handshake too, within a write of data for one. */
int openssl_write_bytes(struct pt_regs *ctx) {
  if ((u8)ctx->si == APPLICATION_DATA) {
    enter(ctx->di, ctx->dx, ctx->r8, S_WRITE, L_OPENSSL);
    return 0;
  }
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (t && t->kind)
    t->depth++;
  return 0;
}

/* A write has said how much it took, (written). What it sent, it sent before. */
int openssl_write_done(struct pt_regs *ctx) {
  u64 cookie = find_cookie(ctx), moved = 0;
  if ((u8)read_spot(ctx, cookie, 1) != APPLICATION_DATA)
    return 0;
  struct thread *t = find_thread();
  if (!t || is_told_twice(t, ctx, cookie & OWN_PROBES))
    return 0;
  int is_told = cookie & SECOND_PLACE && t->is_done;
  t->is_done = !!(cookie & FIRST_PLACE);
  if (is_told || bpf_probe_read_user(&moved, 8, (void *)read_spot(ctx, cookie, 3)) || !moved)
    return 0;
  struct thread here = {.session = read_spot(ctx, cookie, 0), .memory = read_spot(ctx, cookie, 2), .look = find_look()};
  struct session *s = find_session(here.session, L_OPENSSL);
  if (!s)
    return 0;
  bind_by_data(s, here.session, bpf_ktime_get_ns());
  if (!(s->bound & (B_NESTED | B_DATA)))
    follow_write(s, t, here.session, moved);
  t->sent = 0;
  take(s, &here, moved, S_WRITE);
  return 0;
}

#endif
