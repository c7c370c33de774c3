#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Every allocation starts at a chunk of its own and is followed by at least one chunk that belongs to nobody, so that an access
 * past its end, however far within a chunk, is told from one to a neighbour. */
enum { CHUNK = 64 * 1024 };
static const size_t RANGE = (size_t)16 << 30; /* addresses, not memory */

struct memory {
    unsigned char *base;
    size_t chunks, next; /* next chunk to look for a free place at */
    uint32_t
        *owner; /* [chunks] allocation number + 1, 0 none; a released one keeps its chunks until they are used again */
    struct allocation **all;
    size_t count, cap;
};

int memory_open(struct memory **out, struct err *err)
{
    struct memory *m = err_calloc(1, sizeof *m, "emulated device memory", err);
    if (!m)
        return -1;
    m->chunks = RANGE / CHUNK;
    m->owner = err_calloc(m->chunks, sizeof *m->owner, "emulated device memory", err);
    m->base = mmap(NULL, RANGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->base == MAP_FAILED) {
        m->base = NULL;
        err_set(err, "no address space for %zu bytes of emulated device memory", RANGE);
    }
    if (!m->owner || !m->base) {
        memory_close(m);
        return -1;
    }
    *out = m;
    return 0;
}

static void forget(struct allocation *a)
{
    free(a->written);
    free(a->cell);
    a->written = NULL;
    a->cell = NULL;
    a->live = false;
}

void memory_close(struct memory *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++) {
        forget(m->all[i]);
        free(m->all[i]);
    }
    free(m->all);
    free(m->owner);
    if (m->base)
        munmap(m->base, RANGE);
    free(m);
}

static bool chunk_free(const struct memory *m, size_t i)
{
    return m->owner[i] == 0 || !m->all[m->owner[i] - 1]->live;
}

/* First of `need` free chunks in a row, at or after m->next if possible; SIZE_MAX when there are none. */
static size_t find_free(const struct memory *m, size_t need)
{
    for (int pass = 0; pass < 2; pass++) {
        size_t run = 0;
        for (size_t i = pass ? 0 : m->next; i < m->chunks; i++) {
            run = chunk_free(m, i) ? run + 1 : 0;
            if (run == need)
                return i + 1 - need;
        }
    }
    return SIZE_MAX;
}

void *memory_alloc(struct memory *m, size_t bytes, struct err *err)
{
    size_t need = bytes / CHUNK + 2, at = bytes < RANGE ? find_free(m, need) : SIZE_MAX;
    if (at == SIZE_MAX) {
        err_set(err, "the emulator's device memory (%zu bytes) has no room for %zu more", RANGE, bytes);
        return NULL;
    }
    if (m->count == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct allocation **all = realloc(m->all, cap * sizeof *all);
        if (!all) {
            err_set(err, "out of memory: list of %zu allocations", cap);
            return NULL;
        }
        m->all = all;
        m->cap = cap;
    }
    struct allocation *a = err_calloc(1, sizeof *a, "allocation", err);
    if (!a)
        return NULL;
    a->bytes = bytes;
    a->base = m->base + at * CHUNK;
    a->live = true;
    a->written = err_calloc(bytes / 8 + 1, 1, "history of device memory", err);
    a->cell = err_calloc(bytes / 2 + 1, sizeof *a->cell, "history of device memory", err);
    if (!a->written || !a->cell) {
        forget(a);
        free(a);
        return NULL;
    }
    m->all[m->count++] = a;
    for (size_t i = 0; i < need; i++)
        m->owner[at + i] = (uint32_t)m->count;
    m->next = at + need;
    memset(a->base, 0xff, bytes);
    return a->base;
}

struct allocation *memory_find(struct memory *m, const void *p)
{
    if (!memory_owns(m, p))
        return NULL;
    uint32_t owner = m->owner[(size_t)((const unsigned char *)p - m->base) / CHUNK];
    return owner ? m->all[owner - 1] : NULL;
}

int memory_release(struct memory *m, void *p)
{
    struct allocation *a = memory_find(m, p);
    if (!a || !a->live || a->base != p)
        return -1;
    madvise(a->base, a->bytes, MADV_DONTNEED);
    forget(a);
    return 0;
}

bool memory_owns(const struct memory *m, const void *p)
{
    return (uintptr_t)p - (uintptr_t)m->base < RANGE;
}

int memory_check_range(struct memory *m, const void *p, size_t bytes, const char *what, struct err *err)
{
    struct allocation *a = memory_find(m, p);
    size_t offset = a ? (size_t)((const unsigned char *)p - a->base) : 0;
    if (!a)
        return err_set(err, "emu: %s of %zu bytes at %p, which is not device memory", what, bytes, p);
    if (!a->live)
        return err_set(err, "emu: %s of %zu bytes at offset %zu of released device memory", what, bytes, offset);
    if (offset > a->bytes || bytes > a->bytes - offset)
        return err_set(err, "emu: %s of %zu bytes at offset %zu of an allocation of %zu", what, bytes, offset,
                       a->bytes);
    return 0;
}

void memory_mark_written(struct memory *m, const void *p, size_t bytes)
{
    struct allocation *a = memory_find(m, p);
    size_t from = (size_t)((const unsigned char *)p - a->base), to = from + bytes;
    while (from < to && from % 8) {
        a->written[from / 8] |= (unsigned char)(1u << from % 8);
        from++;
    }
    memset(a->written + from / 8, 0xff, (to - from) / 8);
    for (from += (to - from) / 8 * 8; from < to; from++)
        a->written[from / 8] |= (unsigned char)(1u << from % 8);
}

int memory_check_written(struct memory *m, const void *p, size_t bytes, const char *what, struct err *err)
{
    struct allocation *a = memory_find(m, p);
    size_t from = (size_t)((const unsigned char *)p - a->base);
    for (size_t i = from; i < from + bytes; i++)
        if (!(a->written[i / 8] >> i % 8 & 1))
            return err_set(err, "emu: %s: byte %zu of %zu was never written", what, i - from, bytes);
    return 0;
}
