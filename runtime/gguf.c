/* The directory of a GGUF v2 or v3 file. Format: the GGUF specification of the ggml project. */
#include "gguf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cursor.h"

/* Bytes of a value; 0 for strings and arrays, whose length is in the file. */
static const unsigned char kv_bytes[KV_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

enum { MAX_NESTING = 4, MAX_ALIGNMENT = 1 << 20 };

int gguf_compare_names(const char *a, size_t na, const char *b, size_t nb)
{
    int order = memcmp(a, b, na < nb ? na : nb);
    return order ? order : (na > nb) - (na < nb);
}

int gguf_compare_kv(const void *a, const void *b)
{
    const struct kv *x = *(const struct kv *const *)a, *y = *(const struct kv *const *)b;
    return gguf_compare_names(x->key, x->key_len, y->key, y->key_len);
}

static int compare_tensor(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a, *y = *(const struct tensor *const *)b;
    return gguf_compare_names(x->name, x->name_len, y->name, y->name_len);
}

static int compare_place(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a, *y = *(const struct tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

const struct tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    const struct tensor want = {.name = name, .name_len = strlen(name)}, *w = &want;
    const struct tensor **found = g->ntensors ? bsearch(&w, g->by_name, g->ntensors, sizeof w, compare_tensor) : NULL;
    return found ? *found : NULL;
}

/* Steps over one value; arrays and strings say their own length. */
static void skip_value(struct cursor *c, uint32_t type, int depth)
{
    if (type >= KV_TYPES || depth > MAX_NESTING) {
        c->bad = true;
    } else if (type == KV_STR) {
        cursor_skip(c, cursor_u64(c), 1);
    } else if (type == KV_ARRAY) {
        uint32_t of = cursor_u32(c);
        uint64_t count = cursor_u64(c);
        if (of >= KV_TYPES)
            c->bad = true;
        else if (kv_bytes[of])
            cursor_skip(c, count, kv_bytes[of]);
        else
            for (uint64_t i = 0; i < count && !c->bad; i++)
                skip_value(c, of, depth + 1);
    } else {
        cursor_skip(c, 1, kv_bytes[type]);
    }
}

static int read_string(struct cursor *c, const char **str, size_t *len)
{
    uint64_t n = cursor_u64(c);
    *str = cursor_bytes(c, n);
    *len = *str ? (size_t)n : 0;
    return *str ? 0 : -1;
}

static int ends_early(const struct gguf *g, const struct cursor *c, const char *where, uint64_t number, struct err *err)
{
    return err_set(err,
                   "%s: a length in %s %llu (byte %zu) reaches past the end of the file (%zu bytes); the file is "
                   "damaged or the download incomplete",
                   g->path, where, (unsigned long long)number, c->pos, g->size);
}

static int read_kv(struct gguf *g, struct cursor *c, struct kv *kv, struct err *err)
{
    if (read_string(c, &kv->key, &kv->key_len) < 0)
        return ends_early(g, c, "metadata entry", g->nkv + 1, err);
    kv->type = cursor_u32(c);
    if (!c->bad && kv->type >= KV_TYPES)
        return err_set(err, "%s: key '%s' has the unknown type %u; the file is damaged or of a newer format", g->path,
                       err_name(kv->key, kv->key_len).text, kv->type);
    struct cursor head = *c;
    kv->count = 1;
    if (kv->type == KV_ARRAY) {
        kv->of = cursor_u32(&head);
        kv->count = cursor_u64(&head);
    } else if (kv->type == KV_STR) {
        kv->count = cursor_u64(&head);
    }
    kv->at = head.pos;
    skip_value(c, kv->type, 0);
    return c->bad ? ends_early(g, c, "metadata entry", g->nkv + 1, err) : 0;
}

static int read_tensor(struct gguf *g, struct cursor *c, struct tensor *t, uint64_t *offset, struct err *err)
{
    if (read_string(c, &t->name, &t->name_len) < 0)
        return ends_early(g, c, "tensor entry", g->ntensors + 1, err);
    struct err_name name = err_name(t->name, t->name_len);
    uint32_t ndim = cursor_u32(c);
    if (!c->bad && (ndim < 1 || ndim > 4))
        return err_set(err, "%s: tensor '%s' has %u dimensions, not 1 to 4; the file is damaged", g->path, name.text,
                       ndim);
    t->ndim = (int)ndim;
    uint64_t elements = 1;
    for (int i = 0; i < 4; i++) {
        uint64_t n = !c->bad && i < t->ndim ? cursor_u64(c) : 1;
        if (!c->bad && (n < 1 || n > INT64_MAX / elements))
            return err_set(err, "%s: tensor '%s' has the size %llu in dimension %d; the file is damaged", g->path,
                           name.text, (unsigned long long)n, i);
        t->ne[i] = (int64_t)n;
        elements *= n ? n : 1;
    }
    uint32_t type = cursor_u32(c);
    *offset = cursor_u64(c);
    if (c->bad)
        return ends_early(g, c, "tensor entry", g->ntensors + 1, err);
    const struct quant_info *info = quant_info(type);
    if (!info)
        return err_set(err,
                       "%s: tensor '%s' has the element type %u, which is not read; use a file in F32, F16, BF16, "
                       "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
                       g->path, name.text, type);
    if (t->ne[0] % info->block)
        return err_set(
            err, "%s: tensor '%s' has rows of %lld elements, no multiple of the %d of a %s block; the file is damaged",
            g->path, name.text, (long long)t->ne[0], info->block, info->name);
    t->type = type;
    uint64_t blocks = elements / (uint64_t)info->block;
    if (blocks > g->size / (size_t)info->bytes)
        return err_set(err, "%s: tensor '%s' is larger than the file (%zu bytes); the download may be incomplete",
                       g->path, name.text, g->size);
    t->bytes = (size_t)blocks * (size_t)info->bytes;
    return 0;
}

/* Room for one more entry. Arrays grow with what was read: a count that lies in the header costs no memory. */
static void *grow(void *array, size_t used, size_t *room, size_t size, struct err *err)
{
    if (used < *room)
        return array;
    size_t more = *room ? *room * 2 : 64;
    void *p = realloc(array, more * size);
    if (p)
        *room = more;
    else
        err_set(err, "out of memory: %zu x %zu bytes for the model file's directory", more, size);
    return p;
}

static int read_metadata(struct gguf *g, struct cursor *c, uint64_t count, struct err *err)
{
    size_t room = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct kv kv = {0};
        if (read_kv(g, c, &kv, err) < 0)
            return -1;
        struct kv *p = grow(g->kv, g->nkv, &room, sizeof kv, err);
        if (!p)
            return -1;
        g->kv = p;
        g->kv[g->nkv++] = kv;
    }
    if (!(g->by_key = err_alloc(g->nkv, sizeof *g->by_key, "the index of keys", err)))
        return -1;
    for (size_t i = 0; i < g->nkv; i++)
        g->by_key[i] = &g->kv[i];
    qsort(g->by_key, g->nkv, sizeof *g->by_key, gguf_compare_kv);
    for (size_t i = 1; i < g->nkv; i++)
        if (!gguf_compare_kv(&g->by_key[i - 1], &g->by_key[i]))
            return err_set(err, "%s: key '%s' is there twice; the file is damaged", g->path,
                           err_name(g->by_key[i]->key, g->by_key[i]->key_len).text);
    return 0;
}

/* Where a tensor's offset leads to; it must be a multiple of the alignment, and all of the tensor inside the file. */
static int place_tensor(struct gguf *g, struct tensor *t, uint64_t offset, size_t start, size_t alignment,
                        struct err *err)
{
    struct err_name name = err_name(t->name, t->name_len);
    if (offset % alignment)
        return err_set(err,
                       "%s: tensor '%s' lies at offset %llu, no multiple of the alignment %zu; the file is damaged",
                       g->path, name.text, (unsigned long long)offset, alignment);
    size_t room = start < g->size ? g->size - start : 0;
    if (offset > room || t->bytes > room - offset)
        return err_set(err,
                       "%s: tensor '%s' (%zu bytes at offset %llu) ends past the end of the file (%zu bytes); the "
                       "download may be incomplete",
                       g->path, name.text, t->bytes, (unsigned long long)offset, g->size);
    t->data = g->data + start + offset;
    return 0;
}

static int check_overlaps(struct gguf *g, struct err *err)
{
    qsort(g->by_name, g->ntensors, sizeof *g->by_name, compare_place);
    for (size_t i = 1; i < g->ntensors; i++) {
        const struct tensor *a = g->by_name[i - 1], *b = g->by_name[i];
        if ((const unsigned char *)a->data + a->bytes > (const unsigned char *)b->data)
            return err_set(err, "%s: tensors '%s' and '%s' overlap; the file is damaged", g->path,
                           err_name(a->name, a->name_len).text, err_name(b->name, b->name_len).text);
    }
    return 0;
}

static int index_tensors(struct gguf *g, struct err *err)
{
    qsort(g->by_name, g->ntensors, sizeof *g->by_name, compare_tensor);
    for (size_t i = 1; i < g->ntensors; i++)
        if (!compare_tensor(&g->by_name[i - 1], &g->by_name[i]))
            return err_set(err, "%s: tensor '%s' is there twice; the file is damaged", g->path,
                           err_name(g->by_name[i]->name, g->by_name[i]->name_len).text);
    return 0;
}

static int read_tensors(struct gguf *g, struct cursor *c, uint64_t count, struct err *err)
{
    int64_t alignment = 32;
    gguf_get_int(g, "general.alignment", &alignment);
    if (alignment < 8 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)))
        return err_set(err, "%s: general.alignment is %lld, no power of two from 8 to %d; the file is damaged", g->path,
                       (long long)alignment, MAX_ALIGNMENT);
    size_t room = 0, offset_room = 0, mask = (size_t)alignment - 1;
    uint64_t *offset = NULL;
    int rc = -1;
    for (uint64_t i = 0; i < count; i++) {
        struct tensor t = {0};
        uint64_t at = 0;
        if (read_tensor(g, c, &t, &at, err) < 0)
            goto done;
        struct tensor *p = grow(g->tensor, g->ntensors, &room, sizeof t, err);
        if (!p)
            goto done;
        g->tensor = p;
        uint64_t *o = grow(offset, g->ntensors, &offset_room, sizeof at, err);
        if (!o)
            goto done;
        offset = o;
        offset[g->ntensors] = at;
        g->tensor[g->ntensors++] = t;
    }
    if (!(g->by_name = err_alloc(g->ntensors, sizeof *g->by_name, "the index of tensors", err)))
        goto done;
    size_t start = (c->pos + mask) & ~mask;
    for (size_t i = 0; i < g->ntensors; i++) {
        g->by_name[i] = &g->tensor[i];
        if (place_tensor(g, &g->tensor[i], offset[i], start, (size_t)alignment, err) < 0)
            goto done;
    }
    if (check_overlaps(g, err) < 0 || index_tensors(g, err) < 0)
        goto done;
    rc = 0;
done:
    free(offset);
    return rc;
}

static int read_directory(struct gguf *g, struct err *err)
{
    struct cursor c = cursor_over(g->data, g->size);
    if (g->size == 0)
        return err_set(err, "%s: the file is empty; the download may have failed", g->path);
    const void *magic = cursor_bytes(&c, 4);
    if (!magic || memcmp(magic, "GGUF", 4))
        return err_set(err, "%s: not a GGUF file (it does not begin with 'GGUF'); give a model in GGUF format",
                       g->path);
    uint32_t version = cursor_u32(&c);
    if (!c.bad && (version == 0x02000000 || version == 0x03000000))
        return err_set(err, "%s: a big-endian GGUF file, which is not read; convert it to little endian", g->path);
    if (!c.bad && version != 2 && version != 3)
        return err_set(err, "%s: GGUF version %u; versions 2 and 3 are read, convert the model again", g->path,
                       version);
    uint64_t ntensors = cursor_u64(&c), nkv = cursor_u64(&c);
    if (c.bad)
        return err_set(err, "%s: the file ends after %zu bytes, inside its header; the download may be incomplete",
                       g->path, g->size);
    if (read_metadata(g, &c, nkv, err) < 0)
        return -1;
    return read_tensors(g, &c, ntensors, err);
}

int gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *label, struct err *err)
{
    struct gguf *g = err_calloc(1, sizeof *g, "a model file", err);
    if (!g)
        return -1;
    g->data = data;
    g->size = size;
    if (!(g->path = strdup(label))) {
        err_set(err, "out of memory for the name of a model file");
        goto fail;
    }
    if (read_directory(g, err) < 0)
        goto fail;
    *out = g;
    return 0;
fail:
    gguf_close(g);
    return -1;
}

int gguf_adopt(struct gguf *g, struct tensor *list, size_t n, void (*release)(void *owner), void *owner,
               struct err *err)
{
    free(g->tensor);
    free(g->by_name);
    g->tensor = list;
    g->ntensors = n;
    g->release = release;
    g->owner = owner;
    g->by_name = err_alloc(n, sizeof *g->by_name, "the index of tensors", err);
    if (!g->by_name)
        return -1;
    for (size_t i = 0; i < n; i++)
        g->by_name[i] = &list[i];
    return index_tensors(g, err);
}

/* Maps a regular file. An empty one gives no map and size 0. */
static int map_file(const char *path, void **map, size_t *size, struct err *err)
{
    /* O_NONBLOCK: a pipe is refused below and must not hang here. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = -1;
    if (fd < 0)
        return err_set(err, "%s: cannot open the model file: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) < 0) {
        err_set(err, "%s: cannot read the model file: %s", path, strerror(errno));
        goto done;
    }
    if (S_ISDIR(st.st_mode)) {
        err_set(err, "%s: is a directory without config.json; give a .gguf file, or a folder of safetensors", path);
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(err, "%s: is not a regular file; a model is mapped into memory and must be one", path);
        goto done;
    }
    *size = (size_t)st.st_size;
    *map = NULL;
    if (*size > 0) {
        *map = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*map == MAP_FAILED) {
            err_set(err, "%s: cannot map %zu bytes: %s", path, *size, strerror(errno));
            goto done;
        }
    }
    rc = 0;
done:
    close(fd);
    return rc;
}

int gguf_open(struct gguf **out, const char *path, struct err *err)
{
    void *map = NULL;
    size_t size = 0;
    if (map_file(path, &map, &size, err) < 0)
        return -1;
    if (gguf_open_memory(out, map, size, path, err) < 0) {
        if (map)
            munmap(map, size);
        return -1;
    }
    (*out)->mapped = true;
    return 0;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->mapped)
        munmap((void *)(uintptr_t)g->data, g->size);
    if (g->release)
        g->release(g->owner);
    free(g->by_name);
    free(g->by_key);
    free(g->tensor);
    free(g->kv);
    free(g->path);
    free(g);
}

void gguf_forget(const struct gguf *g, const void *data, size_t bytes)
{
    if (!g || !g->mapped || (uintptr_t)data < (uintptr_t)g->data || (uintptr_t)data - (uintptr_t)g->data >= g->size)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (first < end)
        (void)madvise((void *)first, end - first, MADV_DONTNEED);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

size_t gguf_file_bytes(const struct gguf *g)
{
    return g->size;
}

size_t gguf_tensor_count(const struct gguf *g)
{
    return g->ntensors;
}

const struct tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return i < g->ntensors ? &g->tensor[i] : NULL;
}
