/* What a libssl with kernel TLS does when its program sends a file, without TLS: only the functions' names and
   parameters are OpenSSL's. The file goes from the kernel straight to the socket. */
#include <stddef.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct {
    /* A session of OpenSSL begins with its version. */
    int version, fd;
} SSL;

SSL *SSL_new(void *context) {
    (void)context;
    return calloc(1, sizeof(SSL));
}

int SSL_set_fd(SSL *ssl, int fd) {
    ssl->version = 0x0304;
    ssl->fd = fd;
    return 1;
}

int SSL_read(SSL *ssl, void *buffer, int room) {
    return (int)read(ssl->fd, buffer, room);
}

int SSL_write(SSL *ssl, const void *text, int length) {
    return (int)write(ssl->fd, text, length);
}

ssize_t SSL_sendfile(SSL *ssl, int file, off_t offset, size_t size, int flags) {
    (void)flags;
    return sendfile(ssl->fd, file, &offset, size);
}

void SSL_free(SSL *ssl) {
    free(ssl);
}
