/* A server that sends a file by SSL_sendfile, and text by SSL_write before and after it. It ends with its first
   client.
   files FILE      prints its port */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct ssl_st SSL;
SSL *SSL_new(void *);
int SSL_set_fd(SSL *, int);
int SSL_read(SSL *, void *, int);
int SSL_write(SSL *, const void *, int);
ssize_t SSL_sendfile(SSL *, int, off_t, size_t, int);
void SSL_free(SSL *);

static void check(int done, const char *what) {
    if (!done) {
        perror(what);
        exit(1);
    }
}

static void send_text(SSL *ssl, const char *text) {
    int length = (int)strlen(text);
    check(SSL_write(ssl, text, length) == length, "SSL_write");
}

/* The file first, so that nothing of the stream was seen before it; then a response of which it is the body. */
static void serve(SSL *ssl, int file) {
    char request[4096], head[200];
    off_t size = lseek(file, 0, SEEK_END);
    check(SSL_read(ssl, request, sizeof request) > 0, "SSL_read");
    check(SSL_sendfile(ssl, file, 0, 10, 0) == 10, "SSL_sendfile");
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n\r\n", (long)size);
    send_text(ssl, head);
    check(SSL_sendfile(ssl, file, 0, size, 0) == size, "SSL_sendfile");
    send_text(ssl, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter");
}

int main(int count, char **arguments) {
    check(count == 2, "usage");
    int file = open(arguments[1], O_RDONLY), fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(file >= 0, "open");
    check(bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 16) == 0, "listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int client = accept(fd, NULL, NULL);
    SSL *ssl = SSL_new(NULL);
    SSL_set_fd(ssl, client);
    serve(ssl, file);
    SSL_free(ssl);
    return 0;
}
