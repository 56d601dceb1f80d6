/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections and bytes by listening port and kind. */
#ifndef APIDAE_PORTS_H
#define APIDAE_PORTS_H

#include "conn.h"

static __always_inline void count_port(struct conn *c, u64 connections, u64 bytes) {
  u32 port = c->local_port;
  u8 kind = c->kind, *is_listening = listening.lookup(&port);
  int is_server = kind == K_HTTP && c->request_direction == INGRESS;
  if (!is_server && (!is_listening || !*is_listening))
    return;
  struct port_key key = {.port = c->local_port, .kind = kind};
  struct port_count *value = ports.lookup(&key);
  if (!value) {
    struct port_count zero = {};
    ports.update(&key, &zero);
    value = ports.lookup(&key);
  }
  if (!value) {
    count(C_PORTS_FULL);
    return;
  }
  __sync_fetch_and_add(&value->connections, connections);
  __sync_fetch_and_add(&value->bytes, bytes);
}

static __always_inline void flush_port(struct conn *c, struct flow *f) {
  u64 bytes = f->unflushed;
  f->unflushed = 0;
  u64 connections = !c->is_counted;
  c->is_counted = 1;
  count_port(c, connections, bytes);
}

#endif
