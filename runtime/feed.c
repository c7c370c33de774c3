/* Texts of any length, fed to the model in whole chunks. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

static volatile sig_atomic_t interrupted, leaving;

static void on_interrupt(int signal_number)
{
    if (interrupted)
        _exit(128 + signal_number);
    interrupted = 1;
    leaving = signal_number != SIGINT;
}

void interrupt_catch(void)
{
    struct sigaction a = {.sa_handler = on_interrupt}; /* no SA_RESTART: a read from the terminal ends */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

bool interrupt_leaves(void)
{
    return leaving != 0;
}

bool interrupt_seen(void)
{
    return interrupted != 0;
}

void interrupt_clear(void)
{
    interrupted = 0;
}

double session_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_line(const char *fmt, ...)
{
    if (!isatty(STDERR_FILENO))
        return;
    fputs("\r\033[K", stderr);
    if (fmt) {
        va_list ap;
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
    }
    fflush(stderr);
}

int feed_open(struct feed *f, struct session *s, int flags, int64_t limit, struct err *err)
{
    memset(f, 0, sizeof *f);
    f->s = s;
    f->limit = limit;
    return encoder_open(&f->encoder, s->model->tokenizer, flags, err);
}

void feed_close(struct feed *f)
{
    if (f->encoder)
        encoder_close(f->encoder);
    ids_free(&f->ids);
    memset(f, 0, sizeof *f);
}

int ids_append(struct ids *ids, const int32_t *id, size_t n, struct err *err)
{
    if (ids->count + n > ids->room) {
        size_t room = (ids->count + n) * 2;
        int32_t *grown = realloc(ids->id, room * sizeof *grown);
        if (!grown)
            return err_set(err, "out of memory: %zu tokens", room);
        ids->id = grown;
        ids->room = room;
    }
    memcpy(ids->id + ids->count, id, n * sizeof *id);
    ids->count += n;
    return 0;
}

int feed_bos(struct feed *f, struct err *err)
{
    int32_t bos = tokenizer_bos(f->s->model->tokenizer);
    return tokenizer_adds_bos(f->s->model->tokenizer) && bos >= 0 ? ids_append(&f->ids, &bos, 1, err) : 0;
}

/* One chunk of the ids that were read. */
static int feed_chunk(struct feed *f, const int32_t *id, int T, struct err *err)
{
    struct weir_stream *stream = f->s->stream;
    if (weir_stream_chunk(stream, id, T, err))
        return -1;
    f->fed += T;
    int rc = f->fn ? f->fn(f->user, &stream->backend, id, T) : 0;
    return rc == 0 && interrupt_seen() ? FEED_STOPPED : rc;
}

/* Feeds what can be fed: whole chunks, and with `last` the rest. */
static int drain(struct feed *f, bool last, struct err *err)
{
    size_t n = f->ids.count, stride = (size_t)f->s->stream->cascade.stride, done = 0;
    bool full = f->limit - f->fed <= (int64_t)n;
    if (full)
        n = (size_t)(f->limit - f->fed);
    else if (!last)
        n -= n % stride;
    while (done < n) {
        size_t T = n - done < stride ? n - done : stride;
        int rc = feed_chunk(f, f->ids.id + done, (int)T, err);
        if (rc)
            return rc;
        done += T;
    }
    f->ids.count -= n;
    if (n > 0)
        memmove(f->ids.id, f->ids.id + n, f->ids.count * sizeof *f->ids.id);
    return full ? FEED_STOPPED : 0;
}

int feed_text(struct feed *f, const char *text, size_t len, bool last, struct err *err)
{
    enum { PIECE = 1 << 16 }; /* bytes that are encoded at a time, whatever the caller holds */
    size_t at = 0;
    int rc;
    do {
        size_t n = len - at < PIECE ? len - at : PIECE;
        bool end = last && at + n == len;
        rc = encoder_push(f->encoder, text + at, n, end, &f->ids, err);
        rc = rc ? rc : drain(f, end, err);
        at += n;
    } while (rc == 0 && at < len);
    return rc;
}

int feed_file(struct feed *f, const char *path, struct err *err)
{
    bool is_stdin = !strcmp(path, "-");
    enum { BLOCK = 1 << 16 };
    char *buf = err_alloc(BLOCK, 1, "the file's buffer", err);
    FILE *in = is_stdin ? stdin : fopen(path, "rb");
    int rc = -1;
    if (!in)
        err_set(err, "%s: %s", path, strerror(errno));
    if (!in || !buf)
        goto done;
    size_t n;
    do {
        n = fread(buf, 1, BLOCK, in);
        if (ferror(in) && !interrupt_seen()) {
            err_set(err, "%s: %s", is_stdin ? "stdin" : path, strerror(errno));
            goto done;
        }
        rc = interrupt_seen() ? FEED_STOPPED : feed_text(f, buf, n, n < BLOCK, err);
    } while (rc == 0 && n == BLOCK);
done:
    if (in && !is_stdin)
        fclose(in);
    free(buf);
    return rc;
}
