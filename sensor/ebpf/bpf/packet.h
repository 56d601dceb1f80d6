/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IPv4, IPv6 (with extension headers) and TCP headers of a packet whose data starts at the network header. */
#ifndef APIDAE_PACKET_H
#define APIDAE_PACKET_H

#define TCP_FIN 1
#define TCP_RST 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define EXTENSIONS_MAX 6 /* RFC 8200 4.1 knows no more than six before the upper layer, each once (destination options twice). */

struct packet {
  u64 key;      /* Of the connection, the same from both of its ends: the sum of their endpoint_key()s. */
  u32 offset;   /* Of the payload. */
  u32 length;   /* Of the payload; GSO segments whole. */
  u32 sequence;
  u16 source_port, destination_port;
  u8 flags;
  u8 family;
  u8 protocol; /* As the IP header says, extension headers apart. */
};

static __always_inline u64 mix(u64 hash, u64 word) {
  hash = (hash ^ word) * 0x9fb21c651e98df25ULL;
  return hash ^ hash >> 35;
}

/* Not a secret, so not keyed. Twin: hash_connection() of sensor/ebpf/hashes.py. */
static __always_inline u64 endpoint_key(u64 high, u64 low, u16 port) { return mix(mix(mix(port, high), low), 0x61706964616531ULL); }

/* Offset of the TCP header; 0: not TCP, or a later fragment. */
static __always_inline u32 ipv6_tcp_offset(struct __sk_buff *skb, u8 protocol) {
  u32 offset = 40;
  for (int i = 0; i <= EXTENSIONS_MAX; i++) {
    if (protocol == PROTOCOL_TCP)
      return offset;
    u8 extension[8];
    if (bpf_skb_load_bytes(skb, offset, extension, 8) < 0)
      return 0;
    if (protocol == 44) { /* Fragment: 8 bytes; only the first has the TCP header. */
      if (extension[2] | (extension[3] & 0xf8))
        return 0;
      offset += 8;
    } else if (protocol == 51) { /* Authentication header: length in 4 bytes, less 2. */
      offset += (extension[1] + 2) * 4;
    } else if (protocol == 0 || protocol == 43 || protocol == 60 || protocol == 135) {
      offset += (extension[1] + 1) * 8;
    } else {
      return 0;
    }
    protocol = extension[0];
  }
  return 0;
}

static __always_inline int parse_packet(struct __sk_buff *skb, struct packet *p, const u32 direction) {
  u64 ip[5], from, to;
  u8 *bytes = (u8 *)ip, tcp[20];
  p->protocol = 0;
  if (bpf_skb_load_bytes(skb, 0, ip, 40) < 0)
    return 0;
  u32 offset = 0;
  u64 source_high, source_low, destination_high, destination_low;
  p->protocol = bytes[0] >> 4 == 4 ? bytes[9] : bytes[6];
  if (bytes[0] >> 4 == 4) {
    if (bytes[9] != PROTOCOL_TCP || ((bytes[6] & 0x1f) | bytes[7]))
      return 0;
    offset = (bytes[0] & 15) * 4;
    p->family = 4;
    source_high = destination_high = 0;
    source_low = *(u32 *)(bytes + 12);
    destination_low = *(u32 *)(bytes + 16);
  } else {
    offset = ipv6_tcp_offset(skb, bytes[6]);
    if (!offset)
      return 0;
    p->family = 6;
    source_high = ip[1];
    source_low = ip[2];
    destination_high = ip[3];
    destination_low = ip[4];
  }
  if (bpf_skb_load_bytes(skb, offset, tcp, 20) < 0)
    return 0;
  p->source_port = tcp[0] << 8 | tcp[1];
  p->destination_port = tcp[2] << 8 | tcp[3];
  p->sequence = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
  p->flags = tcp[13];
  p->offset = offset + (tcp[12] >> 4) * 4;
  p->length = skb->len > p->offset ? skb->len - p->offset : 0;
  if (p->length || p->flags & (TCP_FIN | TCP_RST))
    p->key = endpoint_key(source_high, source_low, p->source_port) + endpoint_key(destination_high, destination_low, p->destination_port);
  return 1;
}

/* Of the packet in hand: `from` and `to` have 16 bytes each, zeroed. Gives the family. */
static __always_inline u8 read_addresses(struct __sk_buff *skb, u8 *from, u8 *to) {
  u8 ip[40];
  if (bpf_skb_load_bytes(skb, 0, ip, 40) < 0)
    return 0;
  u8 family = ip[0] >> 4;
  if (family == 4) {
    __builtin_memcpy(from, ip + 12, 4);
    __builtin_memcpy(to, ip + 16, 4);
  } else {
    __builtin_memcpy(from, ip + 8, 16);
    __builtin_memcpy(to, ip + 24, 16);
  }
  return family;
}

#endif
