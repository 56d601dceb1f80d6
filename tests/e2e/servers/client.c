/* Calls a server over TLS by an OpenSSL that is in this program: `/orders/N` so often over one connection, each answer read to its end.
 *
 * Arguments: ADDRESS PORT AUTHORITY ORDERS. Built by: cc -static client.c -lssl -lcrypto */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int call(SSL *ssl, int number) {
  char text[16384];
  int size = snprintf(text, sizeof(text), "GET /orders/%d HTTP/1.1\r\nHost: shop.example\r\n\r\n", number), status = 0;
  if (SSL_write(ssl, text, size) != size)
    return 0;
  size = 0;
  for (;;) {
    int more = SSL_read(ssl, text + size, (int)sizeof(text) - 1 - size);
    if (more <= 0)
      return 0;
    text[size += more] = 0;
    char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
    if (end && length && length < end && size >= end + 4 - text + atoi(length + 15))
      return sscanf(text, "HTTP/1.1 %d", &status) == 1 ? status : 0;
  }
}

int main(int argc, char **argv) {
  if (argc != 5)
    return 2;
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (!SSL_CTX_load_verify_locations(context, argv[3], NULL))
    return 3;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  SSL *ssl = SSL_new(context);
  if (connect(fd, (struct sockaddr *)&to, sizeof(to)) || !SSL_set_fd(ssl, fd) || SSL_connect(ssl) != 1)
    return 4;
  for (int number = 0; number < atoi(argv[4]); number++)
    printf("%d\n", call(ssl, 1001 + number));
  SSL_shutdown(ssl);
  SSL_free(ssl);
  close(fd);
  return 0;
}
