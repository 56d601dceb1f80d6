/* Runs the programs on a cgroup's packets in user space, over maps of its own: one connection of a client at 10.0.0.5 to a server at port 8080.
 * Usage: harness TABLE < packets; each packet is three little-endian u32 (direction, TCP flags, length) and its payload. Output: of each entry
 * of a ring u32 number of the ring (in the order of their definition; 0: events), u32 size, the entry; then u32 ~0, u32 most tail calls of a
 * packet, 64 counters and the sum of all struct port_count. */
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))

/* ---- maps ------------------------------------------------------------------------------------------------------------------------- */

#define VALUE_AT(key_size) (((key_size) + 7) & ~7)
#define ELEMENTS_MAX 4096

struct store {
  u32 key_size, value_size, size, is_array, count;
  u8 *array, *elements[ELEMENTS_MAX]; /* An element is its key, and behind it the value. */
};

static void *find_value(struct store *s, const void *key) {
  if (s->is_array) {
    u32 index = *(const u32 *)key;
    if (!s->array)
      s->array = calloc(s->size, s->value_size);
    return index < s->size ? s->array + (size_t)index * s->value_size : 0;
  }
  for (u32 i = 0; i < s->count; i++)
    if (!memcmp(s->elements[i], key, s->key_size))
      return s->elements[i] + VALUE_AT(s->key_size);
  return 0;
}

static int put_value(struct store *s, const void *key, const void *value, int is_over) {
  u8 *found = find_value(s, key);
  if (!found && s->count < ELEMENTS_MAX && s->count < s->size) {
    u8 *element = s->elements[s->count++] = calloc(1, VALUE_AT(s->key_size) + s->value_size);
    memcpy(element, key, s->key_size);
    found = element + VALUE_AT(s->key_size);
    is_over = 1;
  }
  if (found && is_over)
    memcpy(found, value, s->value_size);
  return found ? 0 : -1;
}

static int delete_value(struct store *s, const void *key) {
  for (u32 i = 0; i < s->count; i++)
    if (!memcmp(s->elements[i], key, s->key_size)) {
      s->elements[i] = s->elements[--s->count];
      return 0;
    }
  return -1;
}

#define MAP(key_type, value_type, name, size, is_array) \
  static struct store name##_store = {sizeof(key_type), sizeof(value_type), size, is_array}; \
  static value_type *name##_lookup(const void *key) { return find_value(&name##_store, key); } \
  static int name##_update(const void *key, const void *value) { return put_value(&name##_store, key, value, 1); } \
  static int name##_insert(const void *key, const void *value) { return put_value(&name##_store, key, value, 0); } \
  static int name##_delete(const void *key) { return delete_value(&name##_store, key); } \
  static struct { \
    value_type *(*lookup)(const void *); \
    int (*update)(const void *, const void *), (*insert)(const void *, const void *), (*delete)(const void *); \
  } name = {name##_lookup, name##_update, name##_insert, name##_delete};
#define BPF_ARRAY(name, value_type, size) MAP(u32, value_type, name, size, 1)
#define BPF_PERCPU_ARRAY(name, value_type, size) MAP(u32, value_type, name, size, 1)
#define BPF_HASH(name, key_type, value_type, size) MAP(key_type, value_type, name, size, 0)
#define BPF_TABLE(kind, key_type, value_type, name, size) MAP(key_type, value_type, name, size, 0)
#define BPF_F_TABLE(kind, key_type, value_type, name, size, flags) MAP(key_type, value_type, name, size, 0)
#define BPF_SK_STORAGE(name, value_type) \
  static value_type *name##_value; \
  static value_type *name##_get(void *sk, const void *initial, u64 flags) { \
    if (!name##_value && flags) { \
      name##_value = calloc(1, sizeof(value_type)); \
      if (initial) \
        memcpy(name##_value, initial, sizeof(value_type)); \
    } \
    return name##_value; \
  } \
  static int name##_drop(void *sk) { \
    free(name##_value); \
    name##_value = 0; \
    return 0; \
  } \
  static struct { \
    value_type *(*sk_storage_get)(void *, const void *, u64); \
    int (*sk_storage_delete)(void *); \
  } name = {name##_get, name##_drop};

/* ---- rings ------------------------------------------------------------------------------------------------------------------------ */

#define ENTRIES_MAX (1 << 18)

static struct {
  u32 ring, size;
  void *data;
} entries[ENTRIES_MAX];
static u32 entries_count;

static void *add_entry(u32 ring, u64 size) {
  if (entries_count >= ENTRIES_MAX)
    return 0;
  entries[entries_count].ring = ring;
  entries[entries_count].size = size;
  return entries[entries_count++].data = calloc(1, size);
}

#define RING(name, number) \
  static void *name##_reserve(u64 size) { return add_entry(number, size); } \
  static void name##_submit(void *data, u64 flags) {} \
  static u64 name##_query(u64 flags) { return 0; } \
  static int name##_output(void *data, u64 size, u64 flags) { \
    void *to = add_entry(number, size); \
    if (to) \
      memcpy(to, data, size); \
    return to ? 0 : -1; \
  } \
  static struct { \
    void *(*ringbuf_reserve)(u64); \
    void (*ringbuf_submit)(void *, u64); \
    u64 (*ringbuf_query)(u64); \
    int (*ringbuf_output)(void *, u64, u64); \
  } name = {name##_reserve, name##_submit, name##_query, name##_output};
#define BPF_RINGBUF_OUTPUT(name, pages) RING(name, __COUNTER__)

/* ---- programs --------------------------------------------------------------------------------------------------------------------- */

#define TAIL_CALLS_MAX 33 /* MAX_TAIL_CALL_CNT of the kernel. */

static u32 tail_calls, called;
static jmp_buf entrance;

static void call_program(void *skb, u32 number) {
  if (tail_calls >= TAIL_CALLS_MAX)
    return;
  tail_calls++;
  called = number;
  longjmp(entrance, 1);
}

#define BPF_PROG_ARRAY(name, size) \
  static struct { \
    void (*call)(void *, u32); \
  } name = {call_program};

/* ---- helpers ---------------------------------------------------------------------------------------------------------------------- */

static u8 *packet_bytes;
static u64 clock_ns = 1000000000;

static int bpf_skb_load_bytes(struct __sk_buff *skb, u32 offset, void *to, u32 size) {
  if (offset > skb->len || size > skb->len - offset)
    return -14;
  memcpy(to, packet_bytes + offset, size);
  return 0;
}

static u64 bpf_ktime_get_ns(void) { return clock_ns += 100; }
static struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk) { return sk; }
static struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk) { return 0; }
static u64 bpf_skb_cgroup_id(void *skb) { return 77; }
static u64 bpf_get_socket_cookie(void *skb) { return 4242; }
static u32 bpf_get_prandom_u32(void) { return 1; }
static u32 bpf_get_smp_processor_id(void) { return 0; }

#include "http1.c"

static int run_program(struct __sk_buff *skb, u32 direction) {
  static int (*const tails[])(struct __sk_buff *) = {
      [PROGRAM_WALK] = walk, [PROGRAM_FINISH] = finish, [PROGRAM_WALK_DEFERRED] = walk_deferred, [PROGRAM_RECOGNISE] = recognise,
      [PROGRAM_ANSWER] = answer, [PROGRAM_FOLLOW_FRAMES] = follow_frames, [PROGRAM_COPY_FRAMES] = copy_frames,
      [PROGRAM_ENCRYPTED] = encrypted, [PROGRAM_DATAGRAM] = datagram, [PROGRAM_BODY] = body, [PROGRAM_UPGRADED] = upgraded,
      [PROGRAM_ROUTE] = route, [PROGRAM_GUARD] = guard, [PROGRAM_GUARD_STREAMS] = guard_streams, [PROGRAM_INGRESS] = ingress,
      [PROGRAM_MATCH_STREAMS] = match_streams, [PROGRAM_SKIM] = skim, [PROGRAM_EGRESS] = egress,
      [PROGRAM_REPORT_UNREAD] = report_unread,
  };
  tail_calls = 0;
  if (setjmp(entrance))
    return tails[called](skb);
  return direction == EGRESS ? egress(skb) : ingress(skb);
}

#define HEADERS 40
#define CLIENT_PORT 50000
#define SERVER_PORT 8080

/* IPv4 and TCP without options. */
static void write_headers(u32 direction, u32 sequence, u32 flags) {
  static const u8 client[4] = {10, 0, 0, 5}, server[4] = {10, 0, 0, 1};
  u8 *ip = packet_bytes, *tcp = packet_bytes + 20;
  u16 from = direction == EGRESS ? SERVER_PORT : CLIENT_PORT, to = direction == EGRESS ? CLIENT_PORT : SERVER_PORT;
  ip[0] = 0x45;
  ip[9] = 6;
  memcpy(ip + 12, direction == EGRESS ? server : client, 4);
  memcpy(ip + 16, direction == EGRESS ? client : server, 4);
  tcp[0] = from >> 8;
  tcp[1] = from;
  tcp[2] = to >> 8;
  tcp[3] = to;
  for (u32 i = 0; i < 4; i++)
    tcp[4 + i] = sequence >> (24 - 8 * i);
  tcp[12] = 0x50;
  tcp[13] = flags;
}

int main(int argc, char **argv) {
  u32 zero = 0, port = SERVER_PORT, head[3], sequence[2] = {1000, 5000}, most = 0, end = ~0;
  FILE *table = argc == 2 ? fopen(argv[1], "rb") : 0;
  if (!table || fread(machines.lookup(&zero), sizeof(struct machine), 1, table) != 1)
    return 1;
  *listening.lookup(&port) = 1;
  struct bpf_sock sk = {.state = 1, .family = 2};
  while (fread(head, 4, 3, stdin) == 3) {
    u32 direction = head[0] & 1, flags = head[1], length = head[2];
    packet_bytes = calloc(1, HEADERS + length);
    write_headers(direction, sequence[direction], flags);
    if (fread(packet_bytes + HEADERS, 1, length, stdin) != length)
      return 2;
    sequence[direction] += length + (flags & TCP_FIN);
    struct __sk_buff skb = {.len = HEADERS + length, .ifindex = 2};
    skb.sk = &sk;
    run_program(&skb, direction);
    most = tail_calls > most ? tail_calls : most;
    free(packet_bytes);
  }
  for (u32 i = 0; i < entries_count; i++) {
    fwrite(&entries[i], 4, 2, stdout);
    fwrite(entries[i].data, 1, entries[i].size, stdout);
  }
  struct port_count sum = {};
  for (u32 i = 0; i < ports_store.count; i++)
    add_to_count(&sum, (struct port_count *)(ports_store.elements[i] + VALUE_AT(ports_store.key_size)));
  fwrite(&end, 4, 1, stdout);
  fwrite(&most, 4, 1, stdout);
  fwrite(counters.lookup(&zero), 8, 64, stdout);
  fwrite(&sum, sizeof(sum), 1, stdout);
  return 0;
}
