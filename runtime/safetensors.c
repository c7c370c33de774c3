#include "safetensors.h"

#include <math.h>
#include <string.h>

#include <cJSON.h>

#include "cursor.h"

enum { MAX_HEADER = 100 << 20, MAX_DIMS = 4 };

struct file {
    const char *path;
    const unsigned char *data; /* [size], behind the header */
    size_t size;
};

/* A whole number of 0..most. */
static bool whole(const cJSON *j, double most, int64_t *out)
{
    double v = cJSON_GetNumberValue(j);
    if (!cJSON_IsNumber(j) || !(v >= 0 && v <= most) || v != floor(v))
        return false;
    *out = (int64_t)v;
    return true;
}

static int read_type(const struct file *f, const cJSON *j, enum quant_type *type, struct err *err)
{
    static const struct {
        const char *name;
        enum quant_type type;
    } types[] = {{"F32", QUANT_F32}, {"F16", QUANT_F16}, {"BF16", QUANT_BF16}};
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "dtype"));
    for (size_t i = 0; text && i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, text)) {
            *type = types[i].type;
            return 0;
        }
    return err_set(err, "%s: tensor '%s' is of type %s; F32, F16 and BF16 are read", f->path,
                   err_name(j->string, strlen(j->string)).text, text ? err_name(text, strlen(text)).text : "none");
}

static int damaged(const struct file *f, const cJSON *j, const char *what, struct err *err)
{
    return err_set(err, "%s: tensor '%s' %s; the file is damaged", f->path, err_name(j->string, strlen(j->string)).text,
                   what);
}

static int read_entry(const struct file *f, const cJSON *j, struct tensor *t, struct err *err)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(j, "shape"),
                *place = cJSON_GetObjectItemCaseSensitive(j, "data_offsets");
    int dims = cJSON_GetArraySize(shape);
    int64_t begin, end, count = 1;
    *t = (struct tensor){.name = j->string, .name_len = strlen(j->string), .ndim = dims, .ne = {1, 1, 1, 1}};
    if (read_type(f, j, &t->type, err))
        return -1;
    if (!cJSON_IsArray(shape) || dims < 1 || dims > MAX_DIMS)
        return damaged(f, j, "has no shape of 1 to 4 dimensions", err);
    for (int i = 0; i < dims; i++) {
        int64_t *ne = &t->ne[dims - 1 - i];
        if (!whole(cJSON_GetArrayItem(shape, i), 0x1p40, ne) || *ne == 0 || __builtin_mul_overflow(count, *ne, &count))
            return damaged(f, j, "has a size that cannot be", err);
    }
    if (!whole(cJSON_GetArrayItem(place, 0), 0x1p53, &begin) || !whole(cJSON_GetArrayItem(place, 1), 0x1p53, &end) ||
        begin > end)
        return damaged(f, j, "has no data_offsets", err);
    if ((uint64_t)end > f->size)
        return err_set(err, "%s: tensor '%s' ends %lld bytes behind the file; the download may be incomplete", f->path,
                       err_name(j->string, t->name_len).text, (long long)(end - (int64_t)f->size));
    int64_t each = quant_info(t->type)->bytes, bytes;
    if (__builtin_mul_overflow(count, each, &bytes) || bytes != end - begin)
        return damaged(f, j, "has other data than its shape wants", err);
    t->data = f->data + begin;
    t->bytes = (size_t)bytes;
    if ((uintptr_t)t->data % (size_t)each)
        return damaged(f, j, "lies at an odd place", err);
    return 0;
}

int safetensors_read(const void *data, size_t size, const char *path, safetensors_fn fn, void *user, struct err *err)
{
    struct cursor c = cursor_over(data, size);
    uint64_t length = cursor_u64(&c);
    const char *text = length <= MAX_HEADER ? cursor_bytes(&c, length) : NULL;
    if (!text)
        return err_set(err, "%s: is no safetensors file, or is cut short", path);
    struct file f = {.path = path, .data = (const unsigned char *)data + c.pos, .size = size - c.pos};
    cJSON *top = cJSON_ParseWithLength(text, (size_t)length);
    int rc = cJSON_IsObject(top) ? 0 : err_set(err, "%s: its header is no JSON object; the file is damaged", path);
    const cJSON *j;
    if (rc == 0)
        cJSON_ArrayForEach(j, top)
        {
            struct tensor t;
            if (!strcmp(j->string, "__metadata__"))
                continue;
            rc = read_entry(&f, j, &t, err);
            if (rc == 0)
                rc = fn(user, &t, err);
            if (rc != 0)
                break;
        }
    cJSON_Delete(top);
    return rc;
}
