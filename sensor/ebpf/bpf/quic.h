/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/3 cannot be read; its flows and bytes are counted. A flow is known by a long header with a known version (RFC 9000 17.2), or by
 * port 443 where the sensor comes in the middle of it; then its short headers are counted too.
 */
#ifndef APIDAE_QUIC_H
#define APIDAE_QUIC_H

#include "packet_state.h"

#define PORT_HTTPS 443

enum quic_flow {
  QUIC_SERVER = 1,
  QUIC_ASKED = 2,    /* The client's end; nothing was answered yet. */
  QUIC_CLIENT = 3,
  QUIC_LEFT_OUT = 4, /* The client's end of a flow whose server end is on this node. */
};

/* What: QUIC flows. Life: the least recent is evicted, and counted anew if it goes on. Key: of both ends, this one first. */
BPF_TABLE("lru_hash", u64, u8, quic_flows, 16384);

struct datagram {
  u64 local, remote; /* endpoint_key() of the ends. */
  struct peer_key peer;
  u32 length;
  u16 local_port, remote_port;
  u8 first; /* Byte of the payload. */
  u8 is_long;
};

static __always_inline int is_quic_version(u32 version) {
  return version == 1 || version == 0x6b3343cf /* RFC 9369 */ || version >> 8 == 0xff0000 /* drafts */ ||
         version >> 24 == 'Q' /* before the standard */;
}

static __always_inline int parse_datagram(struct __sk_buff *skb, struct datagram *d, u32 direction) {
  u64 ip[5];
  u8 *bytes = (u8 *)ip, udp[13];
  if (bpf_skb_load_bytes(skb, 0, ip, 28) < 0)
    return 0;
  u32 offset = 40;
  u64 source_high = 0, source_low, destination_high = 0, destination_low;
  d->peer.family = bytes[0] >> 4;
  if (d->peer.family == 4) {
    if ((bytes[6] & 0x1f) | bytes[7])
      return 0; /* A later fragment. */
    offset = (bytes[0] & 15) * 4;
    source_low = *(u32 *)(bytes + 12);
    destination_low = *(u32 *)(bytes + 16);
    __builtin_memcpy(d->peer.address, bytes + (direction == INGRESS ? 12 : 16), 4);
  } else {
    if (bpf_skb_load_bytes(skb, 0, ip, 40) < 0)
      return 0;
    source_high = ip[1];
    source_low = ip[2];
    destination_high = ip[3];
    destination_low = ip[4];
    if (direction == INGRESS)
      __builtin_memcpy(d->peer.address, bytes + 8, 16);
    else
      __builtin_memcpy(d->peer.address, bytes + 24, 16);
  }
  if (bpf_skb_load_bytes(skb, offset, udp, 13) < 0)
    return 0;
  u16 source_port = udp[0] << 8 | udp[1], destination_port = udp[2] << 8 | udp[3];
  u64 source = endpoint_key(source_high, source_low, source_port), destination = endpoint_key(destination_high, destination_low, destination_port);
  d->local = direction == INGRESS ? destination : source;
  d->remote = direction == INGRESS ? source : destination;
  d->local_port = direction == INGRESS ? destination_port : source_port;
  d->remote_port = direction == INGRESS ? source_port : destination_port;
  d->length = skb->len - offset - 8;
  d->first = udp[8];
  d->is_long = (udp[8] & 0xc0) == 0xc0 && is_quic_version((u32)udp[9] << 24 | (u32)udp[10] << 16 | (u32)udp[11] << 8 | udp[12]);
  return d->is_long || (udp[8] & 0xc0) == 0x40;
}

/* What a flow is that was not known before this packet; 0: none of ours. */
static __always_inline u8 start_quic_flow(struct __sk_buff *skb, const struct datagram *d, u32 direction) {
  if (d->is_long) {
    if (direction == INGRESS)
      return QUIC_SERVER;
    return is_local_client(skb, direction) ? QUIC_LEFT_OUT : QUIC_ASKED;
  }
  if (d->local_port == PORT_HTTPS)
    return QUIC_SERVER;
  return d->remote_port == PORT_HTTPS ? QUIC_CLIENT : 0;
}

static __always_inline void call_datagram(struct __sk_buff *skb, u32 direction) {
  skb->cb[0] = direction + 1;
  programs.call(skb, PROGRAM_DATAGRAM);
}

static __always_inline int datagram_packet(struct __sk_buff *skb) {
  u32 direction = (skb->cb[0] - 1) & 1;
  struct datagram d = {};
  if (!skb->sk || !parse_datagram(skb, &d, direction))
    return PASS;
  u64 key = d.local * 3 + d.remote, both = d.local + d.remote;
  u8 *known = quic_flows.lookup(&key), flow = known ? *known : 0, before = flow;
  if (!flow)
    flow = start_quic_flow(skb, &d, direction);
  if (!flow)
    return PASS;
  if (flow == QUIC_ASKED && direction == INGRESS)
    flow = servers.lookup(&both) ? QUIC_LEFT_OUT : QUIC_CLIENT;
  if (flow != before)
    quic_flows.update(&key, &flow);
  struct port_count more = {.bytes = d.length};
  more.connections = flow != before;
  more.late = more.connections && !d.is_long;
  if (flow == QUIC_SERVER) {
    u8 one = 1;
    if (!before)
      servers.update(&both, &one);
    struct port_key port = {.cgroup_id = bpf_skb_cgroup_id(skb), .port = d.local_port, .kind = K_QUIC};
    count_at_port(&port, &more);
  } else if (flow == QUIC_CLIENT) {
    d.peer.cgroup_id = bpf_skb_cgroup_id(skb);
    d.peer.port = d.remote_port;
    d.peer.kind = K_QUIC;
    count_at_peer(&d.peer, &more);
  }
  return PASS;
}

#endif
