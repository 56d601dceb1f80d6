/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is counted of listening ports and of other hosts: the numbers of the coverage report. */
#ifndef APIDAE_PORTS_H
#define APIDAE_PORTS_H

#include "conn.h"

/* Adds to the count of a key; none where the table is full. */
static __always_inline void add_to_count(struct port_count *sum, const struct port_count *more) {
  if (more->connections)
    __sync_fetch_and_add(&sum->connections, more->connections);
  if (more->late)
    __sync_fetch_and_add(&sum->late, more->late);
  if (more->lost)
    __sync_fetch_and_add(&sum->lost, more->lost);
  if (more->calls)
    __sync_fetch_and_add(&sum->calls, more->calls);
  if (more->exchanges)
    __sync_fetch_and_add(&sum->exchanges, more->exchanges);
  __sync_fetch_and_add(&sum->bytes, more->bytes);
}

static __always_inline void count_at_port(const struct port_key *key, const struct port_count *more) {
  struct port_count *sum = ports.lookup(key);
  if (!sum) {
    struct port_count zero = {};
    ports.insert(key, &zero); /* Never over another CPU's sums. */
    sum = ports.lookup(key);
  }
  if (sum)
    add_to_count(sum, more);
  else
    count(C_PORTS_FULL);
}

static __always_inline void count_at_peer(const struct peer_key *key, const struct port_count *more) {
  struct port_count *sum = peers.lookup(key);
  if (!sum) {
    struct port_count zero = {};
    peers.insert(key, &zero);
    sum = peers.lookup(key);
  }
  if (sum)
    add_to_count(sum, more);
  else
    count(C_PEERS_FULL);
}

static __always_inline int is_flush_due(const struct conn *c, const struct flow *f) {
  return !c->is_counted || f->unflushed > PORT_FLUSH_BYTES || V(c->tail) - c->calls_counted >= PORT_FLUSH_CALLS;
}

/* Takes what of the connection is not yet counted. */
static __always_inline void take_count(struct conn *c, struct flow *f, struct port_count *more) {
  more->bytes = f->unflushed;
  f->unflushed = 0;
  more->connections = !c->is_counted;
  more->late = more->connections & c->is_late;
  c->is_counted = 1;
  u32 tail = V(c->tail), untold = V(c->untold);
  more->calls = tail - c->calls_counted;
  c->calls_counted = tail;
  more->lost = untold - c->untold_counted;
  c->untold_counted = untold;
}

static __always_inline int is_listening(u16 port) {
  u32 index = port;
  u8 *value = listening.lookup(&index);
  return value && *value;
}

static __always_inline void flush_port(struct conn *c, struct flow *f) {
  struct port_count more = {};
  take_count(c, f, &more);
  if ((c->kind != K_HTTP || c->request_direction != INGRESS) && !is_listening(c->local_port))
    return;
  struct port_key key = {.cgroup_id = c->cgroup_id, .port = c->local_port, .kind = c->kind};
  count_at_port(&key, &more);
}

#endif
