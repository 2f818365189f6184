/* Two HTTPS exchanges over one connection, as server or as client: the first with the plain functions of
   OpenSSL, the second with their _ex forms. It declares what it calls itself, so that it can be linked to any
   version and relative; -DOLD is for those before 1.1.0, -DPLAIN for those without _ex forms.

   exchange serve CERTIFICATE KEY      prints its port
   exchange get PORT PATH              prints both bodies */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
#ifdef OLD
#define PLAIN
int SSL_library_init(void);
const void *SSLv23_method(void);
long SSL_CTX_ctrl(void *, int, long, void *);
#define TLS_method SSLv23_method
#else
const void *TLS_method(void);
#endif
#ifndef PLAIN
int SSL_read_ex(SSL *, void *, size_t, size_t *);
int SSL_write_ex(SSL *, const void *, size_t, size_t *);
#endif
SSL_CTX *SSL_CTX_new(const void *);
int SSL_CTX_use_certificate_file(SSL_CTX *, const char *, int);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *, int);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int);
int SSL_connect(SSL *);
int SSL_accept(SSL *);
int SSL_peek(SSL *, void *, int);
int SSL_read(SSL *, void *, int);
int SSL_write(SSL *, const void *, int);
int SSL_shutdown(SSL *);
void SSL_free(SSL *);

#define BODY "{\"hello\":\"world\"}\n"

static void check(int done, const char *what) {
    if (!done) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

static int receive(SSL *ssl, int round, char *buffer, int room) {
    size_t length = 0;
#ifndef PLAIN
    if (round == 1)
        return SSL_read_ex(ssl, buffer, room, &length) == 1 ? (int)length : 0;
#endif
    (void)length;
    return SSL_read(ssl, buffer, room);
}

static void send_all(SSL *ssl, int round, const char *text) {
    int length = (int)strlen(text);
#ifndef PLAIN
    size_t written = 0;
    if (round == 1) {
        check(SSL_write_ex(ssl, text, length, &written) == 1, "SSL_write_ex");
        return;
    }
#endif
    check(SSL_write(ssl, text, length) == length, "SSL_write");
}

static void serve(SSL *ssl) {
    char request[4096];
    if (SSL_accept(ssl) != 1)
        return;
    for (int round = 0; round < 2; round++) {
        if (receive(ssl, round, request, sizeof request) <= 0)
            return;
        send_all(ssl, round,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n" BODY);
    }
    SSL_shutdown(ssl);
}

static void get(SSL *ssl, const char *path) {
    char text[4096];
    check(SSL_connect(ssl) == 1, "SSL_connect");
    for (int round = 0; round < 2; round++) {
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
        send_all(ssl, round, text);
        /* What is only looked at is received later. */
        check(SSL_peek(ssl, text, 1) == 1, "SSL_peek");
        int length = receive(ssl, round, text, sizeof text - 1);
        check(length > 0, "the response");
        text[length] = 0;
        fputs(strstr(text, "\r\n\r\n") + 4, stdout);
    }
    SSL_shutdown(ssl);
}

static SSL *session(SSL_CTX *context, int fd) {
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    return ssl;
}

int main(int count, char **arguments) {
    check(count == 4, "usage");
    int is_server = strcmp(arguments[1], "serve") == 0;
#ifdef OLD
    SSL_library_init();
#endif
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    check(context != NULL, "SSL_CTX_new");
#ifdef OLD
    SSL_CTX_ctrl(context, 94, 1, NULL); /* SSL_CTRL_SET_ECDH_AUTO */
#endif
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (!is_server) {
        address.sin_port = htons(atoi(arguments[2]));
        check(connect(fd, (struct sockaddr *)&address, length) == 0, "connect");
        SSL *ssl = session(context, fd);
        get(ssl, arguments[3]);
        SSL_free(ssl);
        return 0;
    }
    check(SSL_CTX_use_certificate_file(context, arguments[2], 1) == 1, "the certificate");
    check(SSL_CTX_use_PrivateKey_file(context, arguments[3], 1) == 1, "the key");
    check(bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 16) == 0, "listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        SSL *ssl = session(context, client);
        serve(ssl);
        SSL_free(ssl);
        close(client);
    }
}
