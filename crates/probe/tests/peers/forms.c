/* A library whose forms are made of one another: SSL_write_ex jumps to SSL_write_ex2, SSL_write
   calls it. Waits for a line, then makes one call of each. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FUNCTION __attribute__((noipa))

FUNCTION int SSL_write_ex2(void *ssl, const void *buf, size_t num, uint64_t flags, size_t *written)
{
    /* Reads the buffer, as every library does; memory that nothing has touched is not there. */
    size_t count = 0;
    while (ssl && !flags && count < num && ((const volatile char *)buf)[count])
        count++;
    *written = count;
    return 1;
}

FUNCTION int SSL_write_ex(void *ssl, const void *buf, size_t num, size_t *written)
{
    return SSL_write_ex2(ssl, buf, num, 0, written);
}

FUNCTION int SSL_write(void *ssl, const void *buf, int num)
{
    size_t written;
    return SSL_write_ex2(ssl, buf, num, 0, &written) > 0 ? (int)written : -1;
}

int main(void)
{
    long session[8] = {0};
    size_t written;
    if (getchar() == EOF)
        return 1;
    for (int round = 0; round < 2; round++) {
        SSL_write_ex(session, "first ", 6, &written);
        SSL_write(session, "second ", 7);
        SSL_write_ex2(session, "third ", 6, 0, &written);
    }
    puts("done");
    return 0;
}
