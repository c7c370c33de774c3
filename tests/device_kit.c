#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"
#include "emu/half.h"

struct kit *kit_of(void **state)
{
    struct kit *k = *state;
    if (k->no_device[0])
        skip();
    return k;
}

void kit_kernel(struct kit *k, struct kernel *out, const char *kernel, const char *params)
{
    struct gen_param param[16];
    char text[256], *rest = text;
    int n = 0;
    struct err err = {""};
    bool other_tile = k->tile && strcmp(kernel, k->tile_of) == 0;
    snprintf(text, sizeof text, "%s %s", params, other_tile ? k->tile : "");
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        param[n++] = (struct gen_param){.name = word, .value = value};
    }
    if (kernel_get(k->gen, &k->cache, &k->dev, kernel, param, n, out, &err) != 0)
        fail_msg("%s (%s): %s", kernel, params, err.msg);
}

void kit_launch(struct kit *k, struct kernel *kernel, unsigned x, unsigned y, unsigned z, void **args)
{
    struct launch l = {.grid = {x, y, z}, .block = kernel->gen.threads, .smem = kernel->gen.smem, .args = args};
    struct err err = {""};
    if (k->dev.launch(&k->dev, kernel->loaded, &l, &err) != 0 || k->dev.sync(&k->dev, &err) != 0)
        fail_msg("%s", err.msg);
}

devptr kit_put(struct kit *k, const void *data, size_t bytes)
{
    devptr p;
    struct err err = {""};
    if (k->dev.alloc(&k->dev, bytes, &p, &err) != 0)
        fail_msg("%s", err.msg);
    /* The emulator's fresh memory holds 0xff bytes, and it knows that nobody has written it. */
    if (data ? k->dev.upload(&k->dev, p, data, bytes, &err)
             : !k->emulated && k->dev.fill(&k->dev, p, 0xff, bytes, &err))
        fail_msg("%s", err.msg);
    return p;
}

void kit_get(struct kit *k, void *out, devptr p, size_t bytes)
{
    struct err err = {""};
    if (k->dev.download(&k->dev, out, p, bytes, &err) != 0)
        fail_msg("%s", err.msg);
}

void kit_release(struct kit *k, devptr p)
{
    k->dev.release(&k->dev, p);
}

uint64_t kit_random(struct kit *k)
{
    uint64_t z = k->seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int kit_int(struct kit *k, int lo, int hi)
{
    return lo + (int)(kit_random(k) % (uint64_t)(hi - lo + 1));
}

double kit_normal(struct kit *k)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (double)(kit_random(k) >> 11) * 0x1p-53;
    return sum;
}

uint16_t half_of(int type, double v)
{
    return type ? float_to_bf16((float)v) : float_to_fp16((float)v);
}

double half_value(int type, uint16_t h)
{
    return type ? bf16_to_float(h) : fp16_to_float(h);
}

double half_rounding(int type)
{
    return type ? 0x1p-8 : 0x1p-11;
}

void kit_near(struct kit_norm *n, const char *what, int head, int at, double got, double want, double bound)
{
    n->error += (got - want) * (got - want);
    n->reference += want * want;
    if (!(fabs(got - want) <= bound))
        fail_msg("%s of head %d, element %d: %.9g instead of %.9g, bound %.3g", what, head, at, got, want, bound);
}

void kit_norm_check(const struct kit_norm *n, const char *what, double bound)
{
    if (!(sqrt(n->error) <= bound * sqrt(n->reference)))
        fail_msg("%s: relative error %.3g, bound %.3g", what, sqrt(n->error / n->reference), bound);
}

float *kit_angles(int positions, int d, const double *freq)
{
    float *table = malloc((size_t)positions * (size_t)d * sizeof *table);
    for (int i = 0; i < positions; i++)
        for (int j = 0; j < d / 2; j++) {
            table[(size_t)i * d + 2 * j] = (float)cos(i * freq[j]);
            table[(size_t)i * d + 2 * j + 1] = (float)sin(i * freq[j]);
        }
    return table;
}

struct cascade_params kit_cascade(int sinks, int subcaches, int w, int span)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = sinks;
    p.subcaches = subcaches;
    p.window = w * subcaches;
    p.span = span;
    p.stride = 4 * w;
    return p;
}
