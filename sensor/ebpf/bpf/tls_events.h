/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What tls.c says besides struct syscall_event, whose positions are here those of the plain text. Twins: sensor/ebpf/abi.py.
 */
#ifndef APIDAE_TLS_EVENTS_H
#define APIDAE_TLS_EVENTS_H

/* How a session of TLS was found to be of its socket; bits, the stronger the higher. */
enum tls_binding {
  B_LAST = 1,   /* The thread had received from it just before it read, or sent so many bytes to it just before it had written. */
  B_NEXT = 2,   /* The thread sent so many bytes to it right after it had written. */
  B_DATA = 4,   /* The library's own data name its descriptor. */
  B_NESTED = 8, /* The library itself sent or received while it read or wrote. */
  B_MANY = 16,  /* Two of these named two sockets: the stronger one is told. */
  B_CLIENT = 32, /* Of the sensor's making (sensor/capture/java): this end can be the client's only. */
};

enum tls_library {
  L_OPENSSL = 1,
  L_GNUTLS = 2,
  L_GO = 3,
  L_BORING = 4, /* Without symbols: nobody sees it free a session. */
  L_RUSTLS = 5,
  L_JAVA = 6, /* Of the sensor's making: sensor/capture/java. */
};

enum tls_counter {
  T_SESSIONS = 7, /* After enum syscall_counter, in one array. */
  T_UNBOUND,      /* Events that were told before it was known which socket they are of. */
  T_MANY,         /* Sessions of which two ways named two sockets. */
  T_COUNT,
};

#endif
