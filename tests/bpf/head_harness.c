/* Compiles the kernel's head reader in user space, over maps that the cases bring.
 * Usage: harness [answer] < input; with an argument the cases are response heads, and `method` is the status. Input: key (16), seed (8), count of names (u32), names (u64 each, hash with its kind), then cases: length (u32)
 * and bytes. Output a line a case: verdict size flags length profile host method unknown suspicious object number credential odd. */
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

static u64 *names;
static u32 names_count;

static __always_inline u32 find_name(u64 hash) {
  for (u32 i = 0; i < names_count; i++)
    if (!((names[i] ^ hash) >> 8))
      return names[i] & 0xff;
  return 0;
}

static __always_inline struct edge *find_edge(const struct edge_key *key) {
  (void)key;
  return 0;
}

static int take(void *to, size_t size) { return fread(to, 1, size, stdin) == size; }

int main(int argc, char **argv) {
  (void)argv;
  struct settings set;
  memset(&set, 0, sizeof(set));
  if (!take(set.sip_key, 16) || !take(&set.seed, 8) || !take(&names_count, 4))
    return 1;
  names = calloc(names_count + 1, 8);
  if (!take(names, 8 * names_count))
    return 1;
  u32 length;
  static struct head h;
  while (take(&length, 4)) {
    static u8 bytes[65536];
    if (length > sizeof(bytes) || !take(bytes, length))
      return 2;
    u32 n = length < HEAD_MAX ? length : HEAD_MAX;
    memcpy(h.bytes, bytes, n); /* What lies behind is left from the case before, as in the kernel. */
    h.end = n;
    h.size = h.node = h.depth = 0;
    h.object = h.host = h.credential = h.length = 0;
    h.number = NUMBER_NONE;
    h.has_host = h.has_slash = h.flags = h.is_suspicious = h.is_odd = h.is_unknown = 0;
    if (argc > 1) {
      h.method = read_answer(&h);
      goto told;
    }
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
  told:
    printf("%u %u %u %llu %llu %llu %llu %u %u %llu %llu %llu %u\n", h.verdict, h.size, h.flags, (unsigned long long)h.length, (unsigned long long)h.profile,
           (unsigned long long)h.host, (unsigned long long)h.method, h.is_unknown, h.is_suspicious, (unsigned long long)h.object,
           (unsigned long long)h.number, (unsigned long long)h.credential, h.is_odd);
  }
  free(names);
  return 0;
}
