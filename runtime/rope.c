#include "rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROPE_LEVELS = 3, DIGITS = 256 };

int rope_open(struct rope *r, const struct model *m, struct err *err)
{
    size_t n = (size_t)m->shape.rope_dim / 2;
    *r = (struct rope){.pairs = m->shape.head_dim / 2, .turning = (int)n};
    r->freq = err_alloc(n, sizeof *r->freq, "rotary frequencies", err);
    r->table = err_alloc(ROPE_LEVELS * DIGITS * n, 2 * sizeof *r->table, "the rotary table", err);
    if (!r->freq || !r->table) {
        rope_close(r);
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        r->freq[i] = model_rope_freq(m, (int)i);
    double *cs = r->table, unit = 1;
    for (int level = 0; level < ROPE_LEVELS; level++, unit *= DIGITS)
        for (int digit = 0; digit < DIGITS; digit++)
            for (size_t i = 0; i < n; i++, cs += 2) {
                double angle = digit * unit * r->freq[i];
                cs[0] = cos(angle);
                cs[1] = sin(angle);
            }
    return 0;
}

void rope_close(struct rope *r)
{
    free(r->freq);
    free(r->table);
    memset(r, 0, sizeof *r);
}

/* The factor of a position is the product of those of its digits. */
void rope_turn(const struct rope *r, int64_t pos, float *cs)
{
    size_t n = (size_t)r->turning;
    uint64_t away = pos < 0 ? 0 - (uint64_t)pos : (uint64_t)pos;
    const double *digit[ROPE_LEVELS];
    for (int level = 0; level < ROPE_LEVELS; level++)
        digit[level] = r->table + ((size_t)level * DIGITS + (away >> 8 * level & (DIGITS - 1))) * n * 2;
    float sign = pos < 0 ? -1 : 1;
    for (size_t i = 0; i < n; i++) {
        double c = digit[0][2 * i], s = digit[0][2 * i + 1];
        if (away >> 8 * ROPE_LEVELS) { /* beyond the table, which only a position in a very long text is */
            double angle = (double)away * r->freq[i];
            c = cos(angle);
            s = sin(angle);
        } else {
            for (int level = 1; level < ROPE_LEVELS && away >> 8 * level; level++) {
                double c2 = digit[level][2 * i], s2 = digit[level][2 * i + 1], real = c * c2 - s * s2;
                s = c * s2 + s * c2;
                c = real;
            }
        }
        cs[2 * i] = (float)c;
        cs[2 * i + 1] = sign * (float)s;
    }
    for (int i = r->turning; i < r->pairs; i++) {
        cs[2 * i] = 1;
        cs[2 * i + 1] = 0;
    }
}

void rope_interleave(const struct rope *r, float *x, float *room)
{
    int n = r->turning;
    memcpy(room, x, 2 * (size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) {
        x[2 * i] = room[i];
        x[2 * i + 1] = room[i + n];
    }
}
