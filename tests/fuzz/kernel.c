/* The kernel's readers of heads in user space, fuzzed: the byte machine says the same however the bytes are cut, and where the word reader
 * takes a head, it ends and is framed as the machine says. Built by tests/fuzz/kernel.py, with libFuzzer or, without it, as a program that
 * reads cases (length, bytes) from standard input. Input: a byte of what to do, a byte of the cut, then the bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define HTTP1_WORD 0x2e312f50545448ULL
#include "events.h"
#include "http_machine.h"
#include "siphash.h"
#include "fields.h"
#include "path.h"
#include "query.h"
#include "response.h"
#include "table.h" /* TABLE: struct machine as bytes. */

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "broken: %s\n", #condition); \
      abort(); \
    } \
  } while (0)

static struct machine machine;
static const struct settings set = {.sip_key = {1, 2}, .seed = 3};
/* A name of each kind; in queries they begin with another seed. */
static struct known_name {
  const char *name;
  u32 kind;
  u64 hash;
} known_names[] = {
    {"host", N_HEADER_HOST},           {"accept", N_HEADER_IGNORED},  {"authorization", N_HEADER_AUTHORIZATION},
    {"x-key", N_HEADER_KEY},           {"signature", N_HEADER_PRESENT}, {"if-match", N_HEADER_QUOTED},
    {"accept-language", N_HEADER_SHAPE}, {"user-agent", N_HEADER_AGENT},
    {"q", N_QUERY_IGNORED},            {"key", N_QUERY_CREDENTIAL},   {"id", N_QUERY_OBJECT},
};
#define NAMES_COUNT (sizeof(known_names) / sizeof(known_names[0]))

static __always_inline u32 find_name(u64 hash) {
  for (u32 i = 0; i < NAMES_COUNT; i++)
    if (!((hash ^ known_names[i].hash) >> 8))
      return known_names[i].kind;
  return 0;
}

static struct edge anywhere = {.node = 1, .flags = E_PARAMETER};
static u64 segment_hash;

/* A trie of one node that knows all values by their shape, and one word. */
static __always_inline struct edge *find_edge(const struct edge_key *key) {
  return key->shape != SEGMENT_EXACT || key->hash == segment_hash ? &anywhere : 0;
}

static u64 hash_name(u64 seed, const char *name) {
  u8 bytes[64] = {0};
  u32 length = strlen(name), at = 0;
  memcpy(bytes, name, length);
  u64 hash = seed, word;
  for (; at + 8 <= length; at += 8) {
    memcpy(&word, bytes + at, 8);
    hash = name_word(hash, word);
  }
  memcpy(&word, bytes + at, 8);
  return name_end(hash, low_bytes(word, length & 7), length);
}

/* Gives the bytes taken. */
static u32 walk(struct parse *p, u8 state, const u8 *data, u32 size, u32 step) {
  u8 window[WINDOW + 8];
  u32 done = 0;
  memset(p, 0, sizeof(*p));
  parse_start(p, state);
  while (done < size && !p->action) {
    u32 n = size - done < step ? size - done : step;
    memset(window, step & 1 ? '\n' : '\r', sizeof(window)); /* What lies behind the window must not matter. */
    memcpy(window, data + done, n);
    p->at = 0;
    p->end = n;
    while (!p->action && machine_step(&machine, p, window))
      ;
    u32 taken = machine_consume(p);
    CHECK(taken <= n && (taken || p->action));
    done += taken;
  }
  CHECK(p->state < STATES_MAX);
  return done;
}

static void check_cut(u8 state, const u8 *data, u32 size, u32 step) {
  struct parse whole, cut;
  u32 done = walk(&whole, state, data, size, WINDOW);
  CHECK(done == walk(&cut, state, data, size, step));
  CHECK(whole.state == cut.state && whole.action == cut.action && whole.flags == cut.flags && whole.status == cut.status);
  CHECK(whole.length == cut.length && whole.head_bytes == cut.head_bytes);
}

static void check_reader(const u8 *data, u32 size, int is_answer) {
  static struct head h;
  struct parse p;
  u32 n = size < HEAD_MAX ? size : HEAD_MAX, status = 0;
  memcpy(h.bytes, data, n); /* What lies behind is left from the case before, as in the kernel. */
  h.end = n;
  h.size = h.depth = 0;
  h.node = 1;
  h.object = h.host = h.length = 0;
  h.has_host = h.has_slash = h.flags = h.is_suspicious = h.is_odd = h.is_unknown = 0;
  if (is_answer) {
    status = read_answer(&h);
  } else {
    read_line(&h);
    if (h.verdict != HEAD_REFUSED) {
      start_fields(&h);
      for (u32 run = 0; run < FIELD_RUNS; run++)
        read_fields(&h, &set);
      check_fields(&h);
    }
    if (h.verdict != HEAD_REFUSED)
      read_path(&h, &set);
    if (h.verdict != HEAD_REFUSED)
      read_query(&h, &set);
  }
  if (h.verdict == HEAD_REFUSED || (!is_answer && !h.node))
    return; /* A path that is not known is left to the machine as well. */
  u32 done = walk(&p, is_answer ? S_RESPONSE : S_REQUEST, data, size, WINDOW);
  CHECK(p.action == A_HEAD_END || (is_answer && p.action == A_HEAD_END_BARE));
  CHECK(h.size == done && done <= n);
  u8 framing = P_CHUNKED | P_CODING | P_LENGTH;
  CHECK((h.flags & framing) == (p.flags & framing));
  CHECK(!(h.flags & P_LENGTH) || h.length == p.length);
  CHECK(is_answer ? status == p.status : !(p.flags & P_AMBIGUOUS));
}

static void start(void) {
  memcpy(&machine, TABLE, sizeof(machine));
  for (u32 i = 0; i < NAMES_COUNT; i++) {
    u32 kind = known_names[i].kind;
    int is_query = kind == N_QUERY_IGNORED || kind == N_QUERY_CREDENTIAL || kind == N_QUERY_OBJECT;
    known_names[i].hash = hash_name(set.seed ^ is_query, known_names[i].name);
  }
  struct sip sip;
  sip_start(&sip, set.sip_key[0], set.sip_key[1]);
  segment_hash = sip_end(&sip, 'a', 1, 2, 4);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  start();
  return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
  static const u8 states[] = {S_REQUEST, S_RESPONSE, S_LINE, S_CHUNK_SIZE, S_CHUNK_AFTER};
  if (size < 2 || size > 65536)
    return 0;
  check_cut(states[data[0] % 5], data + 2, size - 2, data[1] % WINDOW + 1);
  check_reader(data + 2, size - 2, data[0] & 1);
  return 0;
}

#ifdef STANDALONE
int main(void) {
  static u8 bytes[65536];
  u32 length;
  start();
  while (fread(&length, 4, 1, stdin) == 1) {
    if (length > sizeof(bytes) || fread(bytes, 1, length, stdin) != length)
      return 2;
    LLVMFuzzerTestOneInput(bytes, length);
  }
  return 0;
}
#endif
