/* Makes handshakes with 127.0.0.1:PORT for some seconds, in four processes, appends their secrets to a key log of its
 * own, and prints how many there were.
 * Usage: handshakes PORT SECONDS KEYLOG */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int key_log;

static void log_line(const SSL *ssl, const char *line) {
    char whole[512];
    int length = snprintf(whole, sizeof whole, "%s\n", line);
    if (write(key_log, whole, length) != length) abort();
}

static int handshake(SSL_CTX *context, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    int done = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, fd);
        char byte;
        const char *request = "GET / HTTP/1.0\r\n\r\n";
        done = SSL_connect(ssl) == 1 && SSL_write(ssl, request, strlen(request)) > 0 && SSL_read(ssl, &byte, 1) == 1;
        SSL_free(ssl);
    }
    close(fd);
    return done;
}

int main(int count, char **words) {
    int pipes[2], total = 0, made;
    key_log = open(words[3], O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (count < 4 || key_log < 0 || pipe(pipes) != 0) return 1;
    for (int child = 0; child < 4; child++) {
        if (fork() == 0) {
            SSL_CTX *context = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_keylog_callback(context, log_line);
            time_t end = time(NULL) + atoi(words[2]);
            made = 0;
            while (time(NULL) < end) made += handshake(context, atoi(words[1]));
            return write(pipes[1], &made, sizeof made) != sizeof made;
        }
    }
    while (wait(NULL) > 0);
    for (int child = 0; child < 4; child++) {
        if (read(pipes[0], &made, sizeof made) == sizeof made) total += made;
    }
    printf("%d\n", total);
    return 0;
}
