#include "graph_device.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGS = 32, KERNELS = 64 };

/* A kernel, with the sizes of its arguments in bytes, read from its text. */
struct known {
    struct device_kernel *kernel;
    int args;
    unsigned char bytes[ARGS];
};

struct step {
    enum { LAUNCH, PRODUCT, UPLOAD } kind;
    struct launch launch; /* its args are those below */
    const struct known *kernel;
    uint64_t value[ARGS];
    struct gemm product;
    devptr to;
    const void *from;
    size_t bytes;
    struct step *next;
};

static struct {
    struct device inner;
    struct known known[KERNELS];
    int kernels, replays, graphs;
    bool capturing;
    struct step *first, **end; /* of the capture */
} graph;

static struct step *add(int kind)
{
    struct step *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->kind = kind;
    *graph.end = s;
    graph.end = &s->next;
    return s;
}

/* Parameters of "KERNEL(symbol, ...)\n(type name, ...)". */
static void read_parameters(struct known *k, const char *text, const char *symbol)
{
    char head[256];
    snprintf(head, sizeof head, "KERNEL(%s,", symbol);
    const char *at = strstr(text, head);
    at = at ? strchr(at, ')') : NULL;
    at = at ? strchr(at, '(') : NULL;
    if (!at)
        abort();
    for (const char *end; *at != ')'; at = end) {
        const char *type = at + 1;
        end = type + strcspn(type, ",)");
        while (isspace((unsigned char)*type))
            type++;
        bool wide = memchr(type, '*', (size_t)(end - type)) || !strncmp(type, "i64", 3) || !strncmp(type, "u64", 3) ||
                    !strncmp(type, "double", 6);
        if (k->args == ARGS)
            abort();
        k->bytes[k->args++] = wide ? 8 : 4;
    }
}

static int load(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                struct device_kernel **out, struct err *err)
{
    if (graph.inner.load(dev, image, bytes, symbol, smem_max, out, err) != 0)
        return -1;
    if (graph.kernels == KERNELS)
        abort();
    struct known *k = &graph.known[graph.kernels++];
    *k = (struct known){.kernel = *out};
    read_parameters(k, image, symbol);
    return 0;
}

static int launch(struct device *dev, struct device_kernel *kernel, const struct launch *l, struct err *err)
{
    if (!graph.capturing)
        return graph.inner.launch(dev, kernel, l, err);
    struct step *s = add(LAUNCH);
    const struct known *k =
        graph.known + graph.kernels - 1; /* the last first: one that was unloaded may have lain there before */
    while (k->kernel != kernel)
        k--;
    s->kernel = k;
    s->launch = *l;
    for (int i = 0; i < k->args; i++)
        memcpy(&s->value[i], l->args[i], k->bytes[i]);
    return 0;
}

static int gemm(struct device *dev, const struct gemm *g, struct err *err)
{
    if (!graph.capturing)
        return graph.inner.gemm(dev, g, err);
    add(PRODUCT)->product = *g;
    return 0;
}

static int upload_async(struct device *dev, devptr to, const void *from, size_t bytes, struct err *err)
{
    if (!graph.capturing)
        return graph.inner.upload_async(dev, to, from, bytes, err);
    struct step *s = add(UPLOAD);
    s->to = to;
    s->from = from;
    s->bytes = bytes;
    return 0;
}

static int capture_begin(struct device *dev, struct err *err)
{
    (void)dev;
    if (graph.capturing)
        return err_set(err, "a capture inside another one");
    graph.first = NULL;
    graph.end = &graph.first;
    graph.capturing = true;
    return 0;
}

static int capture_end(struct device *dev, void **out, struct err *err)
{
    (void)dev;
    if (!graph.capturing)
        return err_set(err, "nothing is captured");
    graph.capturing = false;
    graph.graphs++;
    *out = graph.first;
    return 0;
}

static int make(struct device *dev, struct step *s, struct err *err)
{
    void *args[ARGS];
    if (s->kind == PRODUCT)
        return graph.inner.gemm(dev, &s->product, err);
    if (s->kind == UPLOAD)
        return graph.inner.upload_async(dev, s->to, s->from, s->bytes, err);
    for (int i = 0; i < s->kernel->args; i++)
        args[i] = &s->value[i];
    s->launch.args = args;
    return graph.inner.launch(dev, s->kernel->kernel, &s->launch, err);
}

static int replay(struct device *dev, void *first, struct err *err)
{
    graph.replays++;
    for (struct step *s = first; s; s = s->next)
        if (make(dev, s, err) != 0)
            return -1;
    return 0;
}

static void release_graph(struct device *dev, void *first)
{
    (void)dev;
    graph.graphs--;
    for (struct step *s = first, *next; s; s = next) {
        next = s->next;
        free(s);
    }
}

void graph_device_wrap(struct device *dev)
{
    memset(&graph, 0, sizeof graph);
    graph.inner = *dev;
    dev->load = load;
    dev->launch = launch;
    dev->gemm = gemm;
    dev->upload_async = upload_async;
    dev->capture_begin = capture_begin;
    dev->capture_end = capture_end;
    dev->replay = replay;
    dev->release_graph = release_graph;
}

int graph_device_replays(void)
{
    return graph.replays;
}

int graph_device_left(void)
{
    return graph.graphs;
}
