/* Compiles the kernel's message machine in user space: reads "state n bytes.." cases, prints where each walk stopped.
 * Usage: harness TABLE < cases; each case is three little-endian u32 (state, chunk size, length) and the bytes. */
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
#include "http_machine.h"

int main(int argc, char **argv) {
  static struct machine m;
  FILE *table = fopen(argv[1], "rb");
  if (argc != 2 || !table || fread(&m, 1, sizeof(m), table) != sizeof(m))
    return 1;
  u32 head[3];
  while (fread(head, 4, 3, stdin) == 3) {
    u8 *bytes = malloc(head[2] + 1), window[WINDOW + 8];
    if (fread(bytes, 1, head[2], stdin) != head[2])
      return 2;
    struct parse p;
    memset(&p, 0, sizeof(p));
    parse_start(&p, head[0]);
    u32 done = 0;
    while (done < head[2] && !p.action) {
      u32 n = head[2] - done < head[1] ? head[2] - done : head[1];
      memset(window, '\n', sizeof(window)); /* What lies behind the window must not matter. */
      memcpy(window, bytes + done, n);
      p.at = 0;
      p.end = n;
      while (!p.action && machine_step(&m, &p, window))
        ;
      done += machine_consume(&p);
    }
    struct parse q; /* The same without branches stops at the same byte with the same results. */
    memset(&q, 0, sizeof(q));
    parse_start(&q, head[0]);
    u32 glided = 0;
    while (glided < head[2] && !q.action) {
      u32 n = head[2] - glided < head[1] ? head[2] - glided : head[1];
      memset(window, '\n', sizeof(window));
      memcpy(window, bytes + glided, n);
      q.at = 0;
      q.end = n;
      for (u32 i = 0; i < WINDOW; i++)
        machine_glide(&m, &q, window);
      glided += machine_consume(&q);
    }
    if (glided != done || memcmp(&p, &q, sizeof(p)))
      return 3;
    printf("%u %u %u %u %u %llu\n", done, p.state, p.action, p.status, p.flags, (unsigned long long)p.length);
    free(bytes);
  }
  return 0;
}
