/* A folder of safetensors: its files, mapped, as the tensors of one gguf. */
#include "hf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_private.h"
#include "safetensors.h"

enum { MAX_FILES = 1024 };

struct map {
    void *data;
    size_t size;
};

/* What the gguf's tensors point into. */
struct hf {
    const char *path; /* of the file that is being read */
    struct map file[MAX_FILES];
    int files;
    void **block; /* [blocks] names and vectors, owned */
    size_t blocks, block_room;
    struct tensor *tensor; /* [tensors], until the gguf takes them */
    size_t tensors, tensor_room;
    bool tied;
    unsigned char *metadata; /* owned */
};

static void release(void *owner)
{
    struct hf *h = owner;
    for (int i = 0; i < h->files; i++)
        munmap(h->file[i].data, h->file[i].size);
    for (size_t i = 0; i < h->blocks; i++)
        free(h->block[i]);
    free(h->block);
    free(h->tensor);
    free(h->metadata);
    free(h);
}

/* Maps folder/name, which must be a file with something in it. 1 where there is none and it is optional. */
static int map_file(const char *folder, const char *name, bool optional, char path[PATH_MAX], struct map *m,
                    struct err *err)
{
    struct stat st;
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return err_set(err, "%.400s: the path is too long", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && optional)
        return 1;
    if (fd < 0)
        return err_set(err, "%s: %s", path, strerror(errno));
    int rc = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0
                 ? 0
                 : err_set(err, "%s: is no file, or an empty one", path);
    m->size = rc == 0 ? (size_t)st.st_size : 0;
    m->data = rc == 0 ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (m->data == MAP_FAILED)
        rc = err_set(err, "%s: cannot be mapped: %s", path, strerror(errno));
    close(fd);
    return rc;
}

/* 0, 1 where there is no such file and it is optional, -1. */
static int read_json(const char *folder, const char *name, bool optional, char path[PATH_MAX], cJSON **out,
                     struct err *err)
{
    struct map m;
    int rc = map_file(folder, name, optional, path, &m, err);
    *out = NULL;
    if (rc)
        return rc;
    *out = cJSON_ParseWithLength(m.data, m.size);
    munmap(m.data, m.size);
    return cJSON_IsObject(*out) ? 0 : err_set(err, "%s: is no JSON object, or is cut short", path);
}

static void *keep_block(struct hf *h, size_t bytes, struct err *err)
{
    if (h->blocks == h->block_room) {
        size_t room = h->block_room * 2 + 64;
        void **grown = realloc(h->block, room * sizeof *grown);
        if (!grown)
            return err_set(err, "out of memory: %zu blocks", room), NULL;
        h->block = grown;
        h->block_room = room;
    }
    void *p = err_alloc(bytes, 1, "a tensor's name or values", err);
    if (p)
        h->block[h->blocks++] = p;
    return p;
}

/* A safetensors_fn. Vectors become fp32, as the model wants them. */
static int take_tensor(void *user, const struct tensor *t, struct err *err)
{
    struct hf *h = user;
    char name[HF_NAME_MAX];
    static const char frequencies[] = "rotary_emb.inv_freq"; /* which follow from config.json */
    if (t->name_len >= sizeof frequencies - 1 && !strcmp(t->name + t->name_len - (sizeof frequencies - 1), frequencies))
        return 0;
    if (!hf_tensor_name(t->name, name))
        return err_set(err, "%s: tensor '%s' has no place in the models that are supported", h->path,
                       err_name(t->name, t->name_len).text);
    if (h->tied && !strcmp(name, "output.weight"))
        return 0;
    if (h->tensors == h->tensor_room) {
        size_t room = h->tensor_room * 2 + 64;
        struct tensor *grown = realloc(h->tensor, room * sizeof *grown);
        if (!grown)
            return err_set(err, "out of memory: %zu tensors", room);
        h->tensor = grown;
        h->tensor_room = room;
    }
    struct tensor own = *t;
    char *kept = keep_block(h, strlen(name) + 1, err);
    if (!kept)
        return -1;
    own.name = strcpy(kept, name);
    own.name_len = strlen(name);
    if (t->ndim == 1) {
        size_t n = (size_t)t->ne[0];
        float *v = keep_block(h, n * sizeof *v, err);
        if (!v)
            return -1;
        quant_to_float(t->type, t->data, v, n);
        own.type = QUANT_F32;
        own.data = v;
        own.bytes = n * sizeof *v;
    }
    h->tensor[h->tensors++] = own;
    return 0;
}

static int read_shard(struct hf *h, const char *folder, const char *name, bool optional, struct err *err)
{
    char path[PATH_MAX];
    if (h->files == MAX_FILES)
        return err_set(err, "%s: more than %d files", folder, MAX_FILES);
    struct map *m = &h->file[h->files];
    int rc = map_file(folder, name, optional, path, m, err);
    if (rc)
        return rc;
    h->files++;
    h->path = path;
    return safetensors_read(m->data, m->size, path, take_tensor, h, err);
}

/* One file, or those that the index names. */
static int read_shards(struct hf *h, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    const char *done[MAX_FILES];
    int ndone = 0, rc = read_shard(h, folder, "model.safetensors", true, err);
    cJSON *index;
    const cJSON *j;
    if (rc <= 0)
        return rc;
    if (read_json(folder, "model.safetensors.index.json", false, path, &index, err)) {
        cJSON_Delete(index);
        return -1;
    }
    rc = 0;
    cJSON_ArrayForEach(j, cJSON_GetObjectItemCaseSensitive(index, "weight_map"))
    {
        const char *name = cJSON_GetStringValue(j);
        int seen = 0;
        if (!name || strchr(name, '/')) {
            rc = err_set(err, "%s: tensor '%s' is in no file of the folder", path,
                         err_name(j->string, strlen(j->string)).text);
            break;
        }
        while (seen < ndone && strcmp(done[seen], name) != 0)
            seen++;
        if (seen < ndone)
            continue;
        if ((rc = read_shard(h, folder, name, false, err)) != 0)
            break;
        done[ndone++] = name;
    }
    cJSON_Delete(index);
    return rc;
}

/* The chat template, as a file of its own or in tokenizer_config.json; a folder may have none. */
static int put_chat_template(struct gguf_build *b, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    struct map m;
    int rc = map_file(folder, "chat_template.jinja", true, path, &m, err);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        char *text = err_alloc(m.size + 1, 1, path, err);
        if (text) {
            memcpy(text, m.data, m.size);
            text[m.size] = 0;
            gguf_build_text(b, "tokenizer.chat_template", text);
        }
        munmap(m.data, m.size);
        free(text);
        return text ? 0 : -1;
    }
    cJSON *config;
    rc = read_json(folder, "tokenizer_config.json", true, path, &config, err);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "chat_template"));
    if (text)
        gguf_build_text(b, "tokenizer.chat_template", text);
    cJSON_Delete(config);
    return rc < 0 ? -1 : 0;
}

static int build_metadata(struct hf *h, struct gguf_build *b, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    cJSON *config = NULL, *tokenizer = NULL;
    gguf_build_begin(b);
    int rc = read_json(folder, "config.json", false, path, &config, err);
    if (rc == 0)
        rc = hf_config(b, config, path, &h->tied, err);
    if (rc == 0)
        rc = read_json(folder, "tokenizer.json", false, path, &tokenizer, err);
    if (rc == 0)
        rc = hf_tokenizer(b, tokenizer, config, path, err);
    if (rc == 0)
        rc = put_chat_template(b, folder, err);
    if (rc == 0)
        rc = gguf_build_end(b, err);
    cJSON_Delete(config);
    cJSON_Delete(tokenizer);
    return rc ? -1 : 0;
}

/* An output of its own that is missing would be taken for a tied one. */
static int check_output(const struct hf *h, const char *folder, struct err *err)
{
    for (size_t i = 0; i < h->tensors; i++)
        if (!strcmp(h->tensor[i].name, "output.weight"))
            return 0;
    return h->tied ? 0
                   : err_set(err,
                             "%s: tensor 'lm_head.weight' is missing, and config.json does not tie it to the embedding",
                             folder);
}

int hf_open(struct gguf **out, const char *folder, struct err *err)
{
    struct gguf_build b = {0};
    struct gguf *g = NULL;
    struct hf *h = err_calloc(1, sizeof *h, "a model's folder", err);
    if (!h)
        return -1;
    int rc = build_metadata(h, &b, folder, err);
    h->metadata = b.data;
    if (rc == 0)
        rc = read_shards(h, folder, err);
    if (rc == 0)
        rc = check_output(h, folder, err);
    if (rc == 0)
        rc = gguf_open_memory(&g, b.data, b.size, folder, err);
    if (rc != 0) {
        release(h);
        return -1;
    }
    struct tensor *list = h->tensor;
    h->tensor = NULL;
    if (gguf_adopt(g, list, h->tensors, release, h, err)) {
        gguf_close(g);
        return -1;
    }
    *out = g;
    return 0;
}
