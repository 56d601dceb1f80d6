/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the bytes that a process moved are of, by the beginnings of messages, and whether a call may go up.
 */
#ifndef APIDAE_SYSCALL_JUDGE_H
#define APIDAE_SYSCALL_JUDGE_H

#include "syscall_budget.h"

#define TRIES_MAX 8

/* Of a token (RFC 9110, section 5.6.2), but for small letters and digits: no method is known to have them, and other protocols begin so. */
static __always_inline int is_method_byte(u8 c) {
  return (c >= 'A' && c <= 'Z') || (c >= '!' && c <= '.' && c != '"' && c != '(' && c != ')' && c != ',') || (c >= '^' && c <= '`') || c == '|' ||
         c == '~';
}

/* Whether the first bytes of a message may be those of HTTP/1 (1 a request, 2 a response), cannot be (0), or are too few to say (3). */
static __always_inline int judge(u64 word, u32 size) {
  if (size >= 7 && (word & 0xffffffffffffff) == 0x2e312f50545448) /* HTTP/1. */
    return 2;
  if (size < 7 && !((word ^ 0x2e312f50545448) << (64 - 8 * size)))
    return 3;
  for (u32 i = 0; i < 8; i++) {
    if (i >= size)
      return 3;
    u8 c = word >> (8 * i);
    if ((c == ' ' || c == '\t' || c == '\v' || c == '\f') && i >= 3)
      return 1;
    if (!is_method_byte(c))
      return 0;
  }
  return 1;
}

static __always_inline u8 name_other(u64 word, u32 size) {
  if (size >= 3 && (word & 0xffff) == 0x0316 && ((word >> 16) & 0xff) <= 4)
    return K_ENCRYPTED;
  if (size >= 8 && word == 0x5448202a20495250) /* PRI * HT */
    return K_HTTP2;
  return K_NEW;
}

/* What a connection turns out to be by what this call moved; gives whether its bytes may be of HTTP/1. */
static __always_inline int recognise(struct syscall_conn *c, struct tcp_end *end, struct message *m, u32 direction) {
  u32 at = direction & 1;
  if (c->last != direction + 1) { /* The other end speaks: a message begins. */
    c->last = direction + 1;
    c->begun[at] = 0;
    c->begun_size[at] = 0;
    c->tries++;
  }
  u32 have = c->begun_size[at];
  u64 word = 0;
  u32 size = peek(m, &word);
  if (have && have < 8) {
    word = c->begun[at] | word << (8 * have);
    size = size + have > 8 ? 8 : size + have;
  }
  c->begun[at] = word;
  c->begun_size[at] = size;
  u8 other = name_other(word, size);
  if (other) {
    c->kind = other;
    c->is_server = direction == 0;
    if (other == K_HTTP2 && !c->is_server && LOOPBACK_IS_LOCAL && is_loopback(end)) {
      c->kind = K_LOCAL_CLIENT;
      count(Z_LOCAL_CLIENTS, 1);
    }
    return c->kind == K_HTTP2;
  }
  int found = judge(word, size);
  if (found == 3)
    return 1;
  if (found) {
    c->kind = K_HTTP;
    c->is_server = (found == 1) == (direction == 0);
    if (!c->is_server && LOOPBACK_IS_LOCAL && is_loopback(end)) {
      c->kind = K_LOCAL_CLIENT;
      count(Z_LOCAL_CLIENTS, 1);
      return 0;
    }
    return 1;
  }
  c->begun_size[at] = 0;
  if (c->tries > TRIES_MAX) {
    c->kind = K_OTHER;
  }
  return 0;
}

static __always_inline int is_read(u8 kind) { return kind == K_HTTP || kind == K_HTTP2; }

/* Whether what this call moved may go up: where it begins a request, its process's budget is asked for the whole call. Of HTTP/2 nobody sees
 * here where one begins: each system call of the client's direction is taken for one. */
static __always_inline int is_granted(struct syscall_conn *c, struct message *m, u32 direction, u64 now) {
  if (c->kind == K_HTTP2)
    return c->is_server != (direction == 0) || take_call(1, now);
  if (c->is_server == (direction == 0)) {
    u64 word = 0;
    u32 size = peek(m, &word);
    if (judge(word, size) == 1)
      c->is_muted = !take_call(0, now);
  }
  return !c->is_muted;
}

#endif
