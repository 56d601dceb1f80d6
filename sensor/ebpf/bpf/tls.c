/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Sees the plain text that processes give to and take from libraries of TLS: programs for uprobes, at places that sensor/capture/tls/finder.py finds.
 *
 * A call of a library has a place where it begins, where its arguments are still in their registers, and places where it returns. What it
 * moved goes up as struct syscall_event, like what a system call moved: positions count plain bytes of the session, and addresses, cgroup and
 * number are those of its socket (tls_bind.h). Nothing here changes what a process does.
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/ptrace.h>
#include "constants.h"
#include "events.h"
#include "syscall_events.h"
#include "syscall_socket.h"
#include "syscall_memory.h"
#include "syscall_judge.h"
#include "tls_bind.h"

/* Room for data in an event: of small writes and heads, of most reads, and of whole records. */
#define SMALL 512
#define MIDDLE 4096
#define LARGE 16384
/* What says whether a message is a frame of a WebSocket (RFC 6455 5.2): of what is not HTTP no more goes up. */
#define FRAME_START 2
/* Of a place's cookie. */
#define STEPPED (1ULL << 62) /* The kernel steps over the instruction there, which takes so many times as long as to emulate it. */
#define STEPPED_WEIGHT 10
#define OWN_PROBES (1ULL << 63) /* Of one process alone. */
#define TWICE_NS 30000 /* Two probes of a place run right behind each other, and a session's next write or read takes longer to come. */

/* A goroutine in a call. */
struct goroutine_key {
  u64 goroutine;
  u32 process;
  u32 _pad;
};

/* What: goroutines in a read. Life: the call's; the least recent is evicted. */
BPF_TABLE("lru_hash", struct goroutine_key, struct thread, goroutines, 16384);

/* What: sessions that turned out not to be, or no longer to be, HTTP: enum conn_kind, by their number. Of the sensor's making. Life: the least
 * recent is evicted, and then is looked at once more. */
BPF_TABLE("lru_hash", u64, u8, refused, 16384);

/* What: how often the sensor wrote to `refused`, counted after each time. Of the sensor's making. Life: the program's. */
BPF_ARRAY(refusal_count, u32, 1);

static __always_inline void put(struct session *s, struct message *m, u8 kind, u32 sequence, u32 other, u64 now, const u32 room) {
  struct syscall_event *e = events.ringbuf_reserve(sizeof(struct syscall_event) + room);
  if (!e) {
    count(Z_EVENTS_LOST, 1);
    return;
  }
  fill(e, &s->end, s->seen.cgroup_id, kind, now);
  e->socket = s->id;
  e->hash = 0;
  e->bound = s->bound;
  e->library = s->library;
  e->process = bpf_get_current_pid_tgid() >> 32;
  e->sequence = sequence;
  e->other = other;
  e->size = m->size;
  u32 length = m->size;
  if (length > room)
    length = room;
  asm volatile("" : "+r"(length));
  if (length > room) /* Once more: the verifier has to see it. */
    length = room;
  if (room && read_user(e->data, length, (void *)m->memory)) {
    count(Z_UNREADABLE, 1);
    length = 0;
  }
  e->length = length;
  if (length < m->size)
    count(Z_UNCOPIED, m->size - length);
  events.ringbuf_submit(e, WAKE_WAITING);
  s->is_told = 1;
  count(Z_EVENTS, 1);
  if (!s->bound)
    count(T_UNBOUND, 1);
}

static __always_inline void put_state(struct session *s, u8 kind) {
  struct message none = {};
  if (is_read(s->seen.kind) || s->seen.kind == K_UPGRADED)
    put(s, &none, kind, s->position[1], s->position[0], bpf_ktime_get_ns(), 0);
}

/* HTTP/2 begins with its preface once: where it comes again, the library used the session's memory for another one. */
static __always_inline void begin_anew(struct session *s, u64 memory, u32 size) {
  u64 word = 0;
  if (s->library != L_BORING || !(s->position[0] | s->position[1]) || size < 24 || read_user(&word, 8, (void *)memory) ||
      word != 0x5448202a20495250 /* PRI * HT */)
    return;
  put_state(s, S_CLOSED);
  struct session fresh = {.id = bpf_ktime_get_ns() | 1ULL << 63, .library = s->library, .look = s->look};
  fresh.seen.cgroup_id = bpf_get_current_cgroup_id();
  *s = fresh;
  count(T_SESSIONS, 1);
}

/* Whether the sensor refused this session, looked up only when it has refused any since. */
static __always_inline void heed_refusal(struct session *s) {
  u32 only = 0, *refusals = refusal_count.lookup(&only);
  if (!refusals || *refusals == s->refusals)
    return;
  s->refusals = *refusals;
  u64 id = s->id;
  u8 *instead = refused.lookup(&id);
  if (!instead)
    return;
  s->seen.kind = *instead;
  s->is_other_told = 1; /* The sensor knows. */
}

/* A client's call that is told at its server's end: it counts to its process, which may have turns. */
static __always_inline void count_left(void) {
  struct account *own = find_account(bpf_get_current_pid_tgid() >> 32);
  if (own)
    __sync_fetch_and_add(&own->calls, 1);
  count(Z_LOCAL_CLIENTS, 1);
}

/* Plain bytes moved: told where they are of HTTP. */
static __always_inline void see_bytes(struct session *s, u64 memory, u32 size, u8 kind, u64 now) {
  u32 direction = kind == S_WRITE, from = s->position[direction], other = s->position[!direction];
  struct message m = {.memory = memory, .size = size, .way = WAY_BUFFER};
  s->position[direction] = from + size;
  if (is_read(s->seen.kind))
    heed_refusal(s);
  if (s->seen.kind == K_LOCAL_CLIENT) {
    if (kind == S_WRITE)
      count_left();
    return;
  }
  int may_be = is_read(s->seen.kind);
  if (s->seen.kind == K_NEW)
    may_be = recognise(&s->seen, &s->end, &m, direction);
  if (s->seen.kind == K_OTHER && kind == S_READ && !s->is_other_told && s->bound) { /* Without its socket it would be of no use, and is told once. */
    struct message start = m;
    if (start.size > FRAME_START)
      start.size = FRAME_START;
    s->is_other_told = 1;
    put(s, &start, S_OTHER, from, other, now, FRAME_START);
  }
  if (!may_be || (is_read(s->seen.kind) && !is_granted(&s->seen, &m, direction, now)))
    return;
  if (size <= SMALL)
    put(s, &m, kind, from, other, now, SMALL);
  else if (size <= MIDDLE)
    put(s, &m, kind, from, other, now, MIDDLE);
  else
    put(s, &m, kind, from, other, now, LARGE);
}

static __always_inline struct thread *find_thread(void) {
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (t || !is_process_watched())
    return t;
  u8 *is_caller = find_caller();
  if (is_caller)
    *is_caller = 1;
  struct thread fresh = {};
  threads.update(&id, &fresh);
  return threads.lookup(&id);
}

static __always_inline void enter(u64 session, u64 memory, u64 result, u8 kind, u8 library) {
  struct thread *t = find_thread();
  if (!t)
    return;
  if (kind == S_WRITE && t->session != session) {
    t->unsent = 0;
    t->unsent_records = 0;
  }
  t->session = session;
  t->memory = memory;
  t->result = result;
  t->kind = kind;
  t->library = library;
  t->is_inner = 0;
  t->depth = 0;
  t->look = find_look();
}

/* How many bytes the call moved; 0 at the other end's end, negative where it failed. */
static __always_inline long count_moved(struct thread *t, int returned) {
  if (!t->result)
    return returned;
  u64 moved = 0;
  if (!returned && t->is_inner)
    return 0;
  if (returned != 1 || read_user(&moved, 8, (void *)t->result))
    return -1;
  return moved;
}

/* The sensor has looked away since this session was seen last: what it knows of the call in hand is not true any more. */
static __always_inline void look_again(struct session *s, u32 look) {
  if (s->look == look)
    return;
  s->look = look;
  put_state(s, S_CUT);
  if (s->seen.kind == K_HTTP2 || s->seen.kind == K_LOCAL_CLIENT)
    return; /* Nobody would know it again, for it begins but once; and what is left to its server's end stays so. */
  struct syscall_conn fresh = {.cgroup_id = s->seen.cgroup_id};
  s->seen = fresh;
  s->refusals = 0; /* To be looked up once more when it is known again. */
}

static __always_inline void take(struct session *s, struct thread *t, long moved, u8 kind, u64 now) {
  look_again(s, t->look);
  if (moved > 0)
    begin_anew(s, t->memory, moved);
  bind_by_data(s, t->session, now);
  if (moved > 0)
    see_bytes(s, t->memory, moved, kind, now);
  else
    put_state(s, S_EOF);
}

static __always_inline void leave(int returned) {
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (!t || !t->kind)
    return;
  if (t->depth) {
    t->depth--;
    return;
  }
  u8 kind = t->kind;
  t->kind = 0;
  if (t->look != find_look())
    return; /* Its beginning was seen before the sensor looked away. */
  long moved = count_moved(t, returned);
  if (moved < 0 || (!moved && kind == S_WRITE))
    return;
  struct session *s = find_session(t->session, t->library);
  if (!s)
    return;
  if (kind == S_READ && !s->bound && t->received)
    bind(s, t->received, B_LAST);
  t->received = 0;
  if (kind == S_WRITE && !(s->bound & B_NESTED)) {
    t->unsent += moved;
    t->unsent_records += 1 + moved / RECORD_BYTES;
  }
  take(s, t, moved, kind, bpf_ktime_get_ns());
}

static __always_inline void end(u64 session, u8 kind) {
  struct session_key key = {.session = session, .process = bpf_get_current_pid_tgid() >> 32};
  struct session *s = sessions.lookup(&key);
  if (!s)
    return;
  put_state(s, kind);
  if (kind == S_CLOSED)
    sessions.delete(&key);
}

static __always_inline u64 find_cookie(struct pt_regs *ctx) {
  return HAS_COOKIES ? bpf_get_attach_cookie(ctx) : 0;
}

/* The process pays for each breakpoint, also for one where nothing is moved; the sensor adds up what that takes. */
static __always_inline void count_breakpoint(struct pt_regs *ctx) {
  u32 process = bpf_get_current_pid_tgid() >> 32;
  struct account *own = accounts.lookup(&process);
  if (!own && is_process_watched()) /* Others take no place in the table. */
    own = find_account(process);
  if (own)
    __sync_fetch_and_add(&own->breakpoints, find_cookie(ctx) & STEPPED ? STEPPED_WEIGHT : 1);
}

/* While the sensor puts probes of its own into a process, a place has two: the second tells nothing. */
static __always_inline int is_told_twice(struct session *s, struct pt_regs *ctx, u64 own, u64 now) {
  int is_twice = s->copied_by == !own && s->copied_from == ctx->si && s->copied_at == ctx->sp && now - s->copied_ns < TWICE_NS;
  s->copied_by = is_twice ? 2 : !!own;
  s->copied_from = ctx->si;
  s->copied_at = ctx->sp;
  s->copied_ns = now;
  return is_twice;
}

#include "tls_rust.h"

int openssl_read(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_READ, L_OPENSSL);
  return 0;
}

int openssl_read_ex(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, ctx->cx, S_READ, L_OPENSSL);
  return 0;
}

/* At the call within SSL_read that does its work: it has a place for how much, and returns as SSL_read does. */
int openssl_read_inner(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, ctx->cx, S_READ, L_OPENSSL);
  u64 id = bpf_get_current_pid_tgid();
  struct thread *t = threads.lookup(&id);
  if (t)
    t->is_inner = 1;
  return 0;
}

int openssl_write(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_WRITE, L_OPENSSL);
  return 0;
}

int openssl_write_ex(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, ctx->cx, S_WRITE, L_OPENSSL);
  return 0;
}

int openssl_write_ex2(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, ctx->r8, S_WRITE, L_OPENSSL);
  return 0;
}

#include "tls_openssl.h"

int boring_read(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_READ, L_BORING);
  return 0;
}

int boring_write(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_WRITE, L_BORING);
  return 0;
}

int gnutls_read(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_READ, L_GNUTLS);
  return 0;
}

int gnutls_write(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  enter(ctx->di, ctx->si, 0, S_WRITE, L_GNUTLS);
  return 0;
}

/* Of C: the call returns in eax. */
int call_return(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  leave((int)ctx->ax);
  return 0;
}

/* From now on it is noted what the thread receives: the first request often comes with the end of the handshake, and is then read without
 * anything being received. */
int handshake(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  find_thread();
  return 0;
}

/* The same, where OpenSSL does not name the socket itself. */
int openssl_handshake(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  if (read_openssl(ctx->di) < 0)
    find_thread();
  return 0;
}

int session_shutdown(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end(ctx->di, S_SHUT);
  return 0;
}

int session_free(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end(ctx->di, S_CLOSED);
  return 0;
}

/* Go's own convention (1.17, ABIInternal): arguments and results in ax, bx, cx; the goroutine in r14. It may go on in another thread. */
int go_read(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  if (!is_process_watched())
    return 0;
  struct goroutine_key key = {.goroutine = ctx->r14, .process = bpf_get_current_pid_tgid() >> 32};
  struct thread t = {.session = ctx->ax, .memory = ctx->bx, .kind = S_READ, .library = L_GO, .look = find_look()};
  goroutines.update(&key, &t);
  return 0;
}

static __always_inline void end_go_read(u64 goroutine, u64 memory, long moved) {
  struct goroutine_key key = {.goroutine = goroutine, .process = bpf_get_current_pid_tgid() >> 32};
  struct thread *found = goroutines.lookup(&key);
  if (!found)
    return;
  struct thread t = *found;
  goroutines.delete(&key);
  if (t.look != find_look())
    return;
  if (memory)
    t.memory = memory;
  struct session *s = find_session(t.session, L_GO);
  if (s && moved > 0) /* Without any it is an error, and most often only that time is over. */
    take(s, &t, moved, S_READ, bpf_ktime_get_ns());
}

int go_return(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end_go_read(ctx->r14, 0, ctx->ax);
  return 0;
}

/* At the call of runtime.memmove(to, from, size) by which a read gives what it has; a read without any has none. */
int go_copy(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end_go_read(ctx->r14, ctx->bx, ctx->cx);
  return 0;
}

int go_write(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  struct thread t = {.session = ctx->ax, .memory = ctx->bx, .library = L_GO, .look = find_look()};
  long moved = ctx->cx;
  u64 now = bpf_ktime_get_ns();
  struct session *s = find_session(t.session, L_GO);
  if (s && moved > 0 && !is_told_twice(s, ctx, find_cookie(ctx) & OWN_PROBES, now))
    take(s, &t, moved, S_WRITE, now);
  return 0;
}

int go_close(struct pt_regs *ctx) {
  count_breakpoint(ctx);
  end(ctx->ax, S_CLOSED);
  return 0;
}

int sock_send_length(struct bpf_raw_tracepoint_args *ctx) {
  see_socket(ctx->args[0], (int)ctx->args[1], S_WRITE);
  return 0;
}

int sock_recv_length(struct bpf_raw_tracepoint_args *ctx) {
  see_socket(ctx->args[0], (int)ctx->args[1], S_READ);
  return 0;
}
