/* Requests a page of 127.0.0.1:PORT twice, the second time with the session of the first, with whichever relative of
 * OpenSSL it is linked to: only functions that all of them have, declared here.
 * Usage: client PORT [CERT KEY] */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_st SSL;
typedef struct ssl_session_st SSL_SESSION;
typedef struct ssl_method_st SSL_METHOD;
#ifdef OLD
int SSL_library_init(void);
const SSL_METHOD *SSLv23_client_method(void);
#else
const SSL_METHOD *TLS_client_method(void);
#endif
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
int SSL_CTX_use_certificate_file(SSL_CTX *, const char *, int);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *, int);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int);
int SSL_set_session(SSL *, SSL_SESSION *);
int SSL_connect(SSL *);
int SSL_read(SSL *, void *, int);
int SSL_write(SSL *, const void *, int);
SSL_SESSION *SSL_get1_session(SSL *);
int SSL_shutdown(SSL *);
void SSL_free(SSL *);

int main(int count, char **words) {
#ifdef OLD
    SSL_library_init();
    SSL_CTX *context = SSL_CTX_new(SSLv23_client_method());
#else
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
#endif
    SSL_SESSION *session = NULL;
    if (count > 3) {
        SSL_CTX_use_certificate_file(context, words[2], 1);
        SSL_CTX_use_PrivateKey_file(context, words[3], 1);
    }
    for (int round = 0; round < 2; round++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return 1;
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, fd);
        if (session) SSL_set_session(ssl, session);
        if (SSL_connect(ssl) != 1) return 2;
        const char *request = "GET / HTTP/1.0\r\n\r\n";
        SSL_write(ssl, request, strlen(request));
        char page[4096];
        for (int length; (length = SSL_read(ssl, page, sizeof page)) > 0;) fwrite(page, 1, length, stdout);
        session = SSL_get1_session(ssl);
        // A session that ends without it is not resumed.
        SSL_shutdown(ssl);
        SSL_free(ssl);
        close(fd);
    }
    return 0;
}
