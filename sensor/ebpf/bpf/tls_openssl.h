/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * OpenSSL 3 seen within: at places of ssl3_read_bytes and ssl3_write_bytes that sensor/capture/tls/openssl.py finds, which each piece of data passes
 * once. A part of tls.c.
 */
#ifndef APIDAE_TLS_OPENSSL_H
#define APIDAE_TLS_OPENSSL_H

/* Where an argument of a function is at a place within it: a register that calls leave as it is, or so far from the stack pointer. Twin:
 * sensor/capture/tls/openssl.py, which packs up to four of them into the place's cookie. */
#define SPOT_STACK 0x4000
#define SPOT_BITS 15
#define TOP_WORDS 8 /* A power of two. */
#define FIRST_PLACE (1ULL << 60) /* The write that is told here passes another place. */
#define SECOND_PLACE (1ULL << 61)
#define APPLICATION_DATA 23     /* RFC 8446, 5.1 */

/* The number keeps the compiler from making one load with a reckoned address of them, which the verifier refuses. */
#define READ_KEPT(number, name)                                                                                                            \
  if (spot == number) {                                                                                                                    \
    value = ctx->name;                                                                                                                     \
    asm volatile("" : "+r"(value) : "i"(number));                                                                                          \
  }

static __always_inline u32 find_spot(u64 cookie, u32 number) { return cookie >> (number * SPOT_BITS) & ((1 << SPOT_BITS) - 1); }

static __always_inline u64 read_kept(struct pt_regs *ctx, u32 spot) {
  u64 value = 0;
  READ_KEPT(1, bx);
  READ_KEPT(2, bp);
  READ_KEPT(3, r12);
  READ_KEPT(4, r13);
  READ_KEPT(5, r14);
  READ_KEPT(6, r15);
  return value;
}

static __always_inline u64 read_spot(struct pt_regs *ctx, u64 cookie, u32 number) {
  u32 spot = find_spot(cookie, number);
  u64 value = 0;
  if (!(spot & SPOT_STACK))
    return read_kept(ctx, spot);
  read_user(&value, 8, (void *)(ctx->sp + (spot & ~SPOT_STACK)));
  return value;
}

/* What lies at the stack pointer, read at once where several arguments are there. */
struct top {
  u64 words[TOP_WORDS];
};

static __always_inline u64 find_in_top(struct pt_regs *ctx, u64 cookie, u32 number, struct top *top, u32 size) {
  u32 spot = find_spot(cookie, number), distance = spot & ~SPOT_STACK, within = distance & 7;
  if (!(spot & SPOT_STACK) || distance >= sizeof(*top) || within + size > 8)
    return read_spot(ctx, cookie, number);
  return top->words[distance / 8 & (TOP_WORDS - 1)] >> within * 8;
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
  count_breakpoint(ctx);
  u64 cookie = find_cookie(ctx);
  u32 moved = ctx->dx;
  struct top top;
  read_user(&top, sizeof(top), (void *)ctx->sp);
  /* Not for the handshake, and not to look at what is read later. */
  if (!moved || (u8)find_in_top(ctx, cookie, 1, &top, 1) != APPLICATION_DATA || (u32)find_in_top(ctx, cookie, 2, &top, 4))
    return 0;
  u64 now = bpf_ktime_get_ns();
  struct thread here = {.session = find_in_top(ctx, cookie, 0, &top, 8), .memory = ctx->si, .look = find_look()};
  struct session *s = find_session(here.session, L_OPENSSL);
  if (!s || is_told_twice(s, ctx, cookie & OWN_PROBES, now))
    return 0;
  bind_by_data(s, here.session, now);
  struct thread *t = s->bound & B_DATA ? find_known_thread() : find_thread();
  if (t) {
    if (!s->bound && t->received)
      bind(s, t->received, B_LAST);
    t->received = 0;
  }
  take(s, &here, moved, S_READ, now);
  return 0;
}

/* The other end has said its last. */
int openssl_read_end(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end(read_spot(ctx, find_cookie(ctx), 0), S_EOF);
  return 0;
}

/* ssl3_write_bytes(ssl, type, buffer, length, written): of a handshake too, within a write of data for one. */
int openssl_write_bytes(struct pt_regs *ctx) {
  count_breakpoint(ctx);
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
  count_breakpoint(ctx);
  u64 cookie = find_cookie(ctx), moved = 0;
  if ((u8)read_spot(ctx, cookie, 1) != APPLICATION_DATA)
    return 0;
  u64 now = bpf_ktime_get_ns();
  struct thread here = {.session = read_spot(ctx, cookie, 0), .look = find_look()};
  struct session *s = find_session(here.session, L_OPENSSL);
  if (!s || is_told_twice(s, ctx, cookie & OWN_PROBES, now))
    return 0;
  int is_told = cookie & SECOND_PLACE && s->is_done;
  s->is_done = !!(cookie & FIRST_PLACE);
  if (is_told || read_user(&moved, 8, (void *)read_spot(ctx, cookie, 3)) || !moved)
    return 0;
  here.memory = read_spot(ctx, cookie, 2);
  bind_by_data(s, here.session, now);
  int is_sure = s->bound & (B_NESTED | B_DATA);
  struct thread *t = is_sure ? find_known_thread() : find_thread();
  if (t) {
    if (!is_sure)
      follow_write(s, t, here.session, moved);
    t->sent = 0;
  }
  take(s, &here, moved, S_WRITE, now);
  return 0;
}

#endif
