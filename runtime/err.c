#include "err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(struct err *err, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
    }
    return -1;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    if (err) {
        char old[sizeof err->msg];
        memcpy(old, err->msg, sizeof old);
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof err->msg)
            snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", old);
    }
    return -1;
}

struct err_name err_name(const char *name, size_t len)
{
    enum { SHOWN = 80 };
    struct err_name s = {""};
    size_t n = len < SHOWN ? len : SHOWN;
    for (size_t i = 0; i < n; i++)
        s.text[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    if (len > n)
        strcpy(s.text + n, "...");
    return s;
}

void *err_alloc(size_t count, size_t size, const char *what, struct err *err)
{
    size_t bytes = count * size;
    bool overflow = size != 0 && count > SIZE_MAX / size;
    void *p = overflow ? NULL : malloc(bytes > 0 ? bytes : 1);
    if (!p)
        err_set(err, "out of memory: %zu x %zu bytes for %s", count, size, what);
    return p;
}

void *err_calloc(size_t count, size_t size, const char *what, struct err *err)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        err_set(err, "out of memory: %zu x %zu bytes for %s", count, size, what);
    return p;
}
