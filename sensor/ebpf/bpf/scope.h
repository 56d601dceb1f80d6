/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whether a cgroup is watched: the one that the sensor is set to watch, or one below it. Programs on a cgroup's packets need not ask. Those on
 * system calls and on libraries run for every process of the host. Without IS_SCOPED (constants.h) all of it is watched.
 */
#ifndef APIDAE_SCOPE_H
#define APIDAE_SCOPE_H

#include "syscall_socket.h"

#define LEVELS_MAX 16 /* Levels of cgroups, the root counted, in which a watched one may be. Twin: sensor/enrich/cgroup_tree.py. */

/* What: id of the cgroup that is watched with all below it. Of the sensor's making. Life: the program's. */
BPF_ARRAY(scope, u64, 1);
/* What: 1 where a cgroup is watched, else 0; neither ever changes. Life: the least recent is evicted. Key: its id. */
BPF_TABLE("lru_hash", u64, u8, scoped_cgroups, 4096);

/* The id of the cgroup at a level that a cgroup is below, or is. Before 6.1 the kernel keeps ids there, since then addresses. */
static __always_inline u64 read_ancestor_id(u64 cgroup, u32 level) {
  u64 ancestor = read_word(cgroup + O_CGROUP_ANCESTORS + 8 * level);
  return ANCESTORS_ARE_IDS ? ancestor : read_cgroup_id(ancestor);
}

/* Takes the address of a cgroup, or 0. */
static __always_inline int is_watched(u64 cgroup) {
  if (!IS_SCOPED)
    return 1;
  u32 only = 0;
  u64 id = read_cgroup_id(cgroup), *wanted = scope.lookup(&only);
  u8 *known = scoped_cgroups.lookup(&id), found = 0;
  if (!wanted || known)
    return known && *known;
  u32 level = read_number(cgroup + O_CGROUP_LEVEL);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < LEVELS_MAX; i++) {
    if (i > V(level))
      break;
    if (read_ancestor_id(cgroup, i) == *wanted) {
      found = 1;
      break;
    }
  }
  scoped_cgroups.update(&id, &found);
  return found;
}

/* The same of the cgroup of this process. */
static __always_inline int is_process_watched(void) {
  return !IS_SCOPED || is_watched(read_word(read_word(bpf_get_current_task() + O_TASK_CGROUPS) + O_SET_CGROUP));
}

#endif
