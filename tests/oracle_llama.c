#include "oracle_llama.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle_attention.h"
#include "oracle_cascade.h"

static void *need(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    if (!p) {
        fprintf(stderr, "oracle: out of memory\n");
        abort();
    }
    return p;
}

/* --- products ---------------------------------------------------------------------------------------------------------- */

enum { LANES = 2, ROWS = 4 };
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

static lanes load(const double *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Dot products of one weight row [n] with ROWS activations x [ROWS][n]; n is a multiple of 2 LANES. Sums in registers. */
static void dot_rows(const double *w, const double *x, size_t n, double *out)
{
    lanes a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    for (size_t k = 0; k < n; k += 2 * LANES, x += 2 * LANES) {
        lanes wa = load(w + k), wb = load(w + k + LANES);
        a0 += wa * load(x);
        b0 += wb * load(x + LANES);
        a1 += wa * load(x + n);
        b1 += wb * load(x + n + LANES);
        a2 += wa * load(x + 2 * n);
        b2 += wb * load(x + 2 * n + LANES);
        a3 += wa * load(x + 3 * n);
        b3 += wb * load(x + 3 * n + LANES);
    }
    a0 += b0;
    a1 += b1;
    a2 += b2;
    a3 += b3;
    out[0] = a0[0] + a0[1];
    out[1] = a1[0] + a1[1];
    out[2] = a2[0] + a2[1];
    out[3] = a3[0] + a3[1];
}

static double dot(const double *w, const double *x, size_t n)
{
    lanes a = {0}, b = {0};
    for (size_t k = 0; k < n; k += 2 * LANES) {
        a += load(w + k) * load(x + k);
        b += load(w + k + LANES) * load(x + k + LANES);
    }
    a += b;
    return a[0] + a[1];
}

struct product {
    const struct tensor *w;
    const double *x; /* [T][stride], padded with zeros */
    size_t stride, T;
    double *y;       /* [T][out] */
    size_t from, to; /* rows of w */
};

static void *product_part(void *arg)
{
    const struct product *p = arg;
    size_t in = (size_t)p->w->ne[0], out = (size_t)p->w->ne[1], row_bytes = p->w->bytes / out;
    float *f = need(in, sizeof *f);
    double *w = need(p->stride, sizeof *w), y[ROWS];
    for (size_t o = p->from; o < p->to; o++) {
        quant_to_float(p->w->type, (const char *)p->w->data + o * row_bytes, f, in);
        for (size_t k = 0; k < in; k++)
            w[k] = (double)f[k];
        size_t t = 0;
        for (; t + ROWS <= p->T; t += ROWS) {
            dot_rows(w, p->x + t * p->stride, p->stride, y);
            for (size_t r = 0; r < ROWS; r++)
                p->y[(t + r) * out + o] = y[r];
        }
        for (; t < p->T; t++)
            p->y[t * out + o] = dot(w, p->x + t * p->stride, p->stride);
    }
    free(f);
    free(w);
    return NULL;
}

/* y [T][out] = x [T][in] . w^T (+ bias) */
static void product(const struct tensor *w, const struct tensor *bias, const double *x, int T, double *y, int threads)
{
    enum { MOST = 16 };
    size_t in = (size_t)w->ne[0], out = (size_t)w->ne[1], stride = (in + 2 * LANES - 1) / (2 * LANES) * (2 * LANES),
           rows = (size_t)T;
    double *padded = need(rows * stride, sizeof *padded);
    for (size_t t = 0; t < rows; t++)
        memcpy(padded + t * stride, x + t * in, in * sizeof *x);
    struct product part[MOST];
    pthread_t thread[MOST];
    bool started[MOST] = {false};
    size_t parts = threads < 1 || (double)in * (double)out * T < 1e6 ? 1 : threads > MOST ? MOST : (size_t)threads;
    for (size_t i = parts; i-- > 0;) {
        part[i] = (struct product){w, padded, stride, rows, y, out * i / parts, out * (i + 1) / parts};
        started[i] = i > 0 && pthread_create(&thread[i], NULL, product_part, &part[i]) == 0;
        if (!started[i])
            product_part(&part[i]);
    }
    for (size_t i = 0; i < parts; i++)
        if (started[i])
            pthread_join(thread[i], NULL);
    free(padded);
    if (bias)
        for (size_t t = 0; t < rows; t++)
            for (size_t o = 0; o < out; o++)
                y[t * out + o] += (double)((const float *)bias->data)[o];
}

/* --- the pass ---------------------------------------------------------------------------------------------------------- */

struct pass {
    const struct model *m;
    const struct cascade_params *p;
    struct oracle_llama *out;
    struct oracle_cascade *cascade; /* [layers][cascades] */
    double *k, *v;                  /* [layers][n][KV][d] of all tokens, unrotated */
    struct oracle_rope rope;
    const int32_t *tokens;
    size_t n;
    int threads;
};

/* Angle per position of each pair, after the scaling rules of the model families. Llama 3.1: frequencies whose wavelength is
 * above the original context over low_freq_factor are divided by factor, those below it over high_freq_factor stay, and in
 * between a blend runs linearly in context / wavelength. */
static double frequency(const struct model *m, int i)
{
    const struct model_shape *s = &m->shape;
    double f = 1 / pow(s->rope_base, 2.0 * i / s->rope_dim);
    if (m->rope_freqs)
        f /= (double)((const float *)m->rope_freqs->data)[i];
    if (s->scaling == ROPE_LINEAR)
        f /= s->rope_factor;
    if (s->scaling == ROPE_LLAMA3) {
        double wavelength = 2 * M_PI / f;
        double low = s->rope_ctx_origin / s->rope_low_freq, high = s->rope_ctx_origin / s->rope_high_freq;
        if (wavelength > low) {
            f /= s->rope_factor;
        } else if (wavelength >= high) {
            double smooth =
                (s->rope_ctx_origin / wavelength - s->rope_low_freq) / (s->rope_high_freq - s->rope_low_freq);
            f = (1 - smooth) * f / s->rope_factor + smooth * f;
        }
    }
    return f;
}

static void rms_norm(const struct model *m, const struct tensor *weight, const double *x, int T, double *y)
{
    int n = m->shape.hidden;
    for (int t = 0; t < T; t++) {
        const double *in = x + (size_t)t * (size_t)n;
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += in[i] * in[i];
        double scale = 1 / sqrt(sum / n + (double)m->shape.norm_eps);
        for (int i = 0; i < n; i++)
            y[(size_t)t * (size_t)n + (size_t)i] = in[i] * scale * (double)((const float *)weight->data)[i];
    }
}

/* Copies `count` vectors of d elements that lie `stride` apart. */
static void gather(double *to, const double *from, int count, size_t stride, int d)
{
    for (int i = 0; i < count; i++)
        memcpy(to + (size_t)i * (size_t)d, from + (size_t)i * stride, (size_t)d * sizeof *to);
}

/* One key head of one layer: keys that its cascade holds, then the chunk's.  o [T][H][d]; column [G][held + T]. */
static void attend_head(struct pass *s, int layer, int head, int64_t t0, int T, const int64_t *held, int nheld,
                        const double *q, double *o, double *column)
{
    const struct model_shape *sh = &s->m->shape;
    int d = sh->head_dim, KV = sh->kv_heads, G = sh->heads / KV, keys = nheld + T;
    size_t D = (size_t)d, token = (size_t)KV * D;
    double *k = need((size_t)keys * D, sizeof *k), *v = need((size_t)keys * D, sizeof *v);
    double *qg = need((size_t)(T * G) * D, sizeof *qg), *og = need((size_t)(T * G) * D, sizeof *og);
    int64_t *k_pos = need((size_t)keys, sizeof *k_pos), *q_pos = need((size_t)T, sizeof *q_pos);
    for (int j = 0; j < keys; j++) {
        int64_t t = j < nheld ? held[j] : t0 + (j - nheld);
        size_t at = ((size_t)layer * s->n + (size_t)t) * token + (size_t)head * D;
        memcpy(k + (size_t)j * D, s->k + at, D * sizeof *k);
        memcpy(v + (size_t)j * D, s->v + at, D * sizeof *v);
        k_pos[j] = s->p->positions == POSITIONS_ORIGINAL ? t : j;
    }
    for (int m = 0; m < T; m++) {
        q_pos[m] = k_pos[nheld + m];
        gather(qg + (size_t)(m * G) * D, q + ((size_t)m * (size_t)sh->heads + (size_t)(head * G)) * D, G, D, d);
    }
    oracle_attend(&s->rope, T, G, nheld, d, qg, q_pos, k, v, k_pos, s->p->ema, og, NULL, column);
    for (int m = 0; m < T; m++)
        gather(o + ((size_t)m * (size_t)sh->heads + (size_t)(head * G)) * D, og + (size_t)(m * G) * D, G, D, d);
    free(k);
    free(v);
    free(qg);
    free(og);
    free(k_pos);
    free(q_pos);
}

/* Score update and insertion of one cascade: `heads` query heads are reduced. */
static void score_and_insert(const struct cascade_params *p, struct oracle_cascade *c, const int64_t *held, int nheld,
                             int T, int heads, const double *column)
{
    int keys = nheld + T;
    double *reduced = need((size_t)keys, sizeof *reduced), *score = need((size_t)keys, sizeof *score);
    for (int j = 0; j < nheld; j++)
        score[j] = c->score[held[j]];
    oracle_reduce(p->reduction, heads, keys, column, reduced);
    oracle_score_update(p->ema, T, keys, score, reduced);
    for (int j = 0; j < nheld; j++)
        c->score[held[j]] = score[j];
    for (int m = 0; m < T; m++)
        oracle_cascade_insert(c, score[nheld + m]);
    free(reduced);
    free(score);
}

static void attention(struct pass *s, int layer, int64_t t0, int T, const double *q, double *o)
{
    const struct model_shape *sh = &s->m->shape;
    int KV = sh->kv_heads, G = sh->heads / KV, cascades = s->out->cascades;
    int rows = s->p->sinks + s->p->window + s->p->span;
    int64_t *held = need((size_t)cascades * (size_t)rows, sizeof *held);
    int nheld = 0;
    for (int i = 0; i < cascades; i++)
        nheld = oracle_cascade_held(&s->cascade[layer * cascades + i], held + (size_t)i * (size_t)rows);
    size_t keys = (size_t)(nheld + T);
    double *column = need((size_t)sh->heads * keys, sizeof *column);
    for (int head = 0; head < KV; head++) {
        const int64_t *mine = held + (cascades > 1 ? (size_t)head * (size_t)rows : 0);
        attend_head(s, layer, head, t0, T, mine, nheld, q, o, column + (size_t)(head * G) * keys);
    }
    int heads = sh->heads / cascades;
    for (int i = 0; i < cascades; i++)
        score_and_insert(s->p, &s->cascade[layer * cascades + i], held + (size_t)i * (size_t)rows, nheld, T, heads,
                         column + (size_t)(i * heads) * keys);
    free(held);
    free(column);
}

static void layer_forward(struct pass *s, int layer, int64_t t0, int T, double *x)
{
    const struct model_shape *sh = &s->m->shape;
    const struct model_layer *l = &s->m->layer[layer];
    size_t rows = (size_t)T, hidden = (size_t)sh->hidden, ffn = (size_t)sh->ffn,
           wide = (size_t)(sh->heads * sh->head_dim);
    size_t token = (size_t)(sh->kv_heads * sh->head_dim), at = ((size_t)layer * s->n + (size_t)t0) * token;
    double *normed = need(rows * hidden, sizeof *normed), *y = need(rows * hidden, sizeof *y);
    double *q = need(rows * wide, sizeof *q), *o = need(rows * wide, sizeof *o);
    double *gate = need(rows * ffn, sizeof *gate), *up = need(rows * ffn, sizeof *up);

    rms_norm(s->m, l->attn_norm, x, T, normed);
    product(l->wq, l->bq, normed, T, q, s->threads);
    product(l->wk, l->bk, normed, T, s->k + at, s->threads);
    product(l->wv, l->bv, normed, T, s->v + at, s->threads);
    attention(s, layer, t0, T, q, o);
    product(l->wo, NULL, o, T, y, s->threads);
    for (size_t i = 0; i < rows * hidden; i++)
        x[i] += y[i];

    rms_norm(s->m, l->ffn_norm, x, T, normed);
    product(l->gate, NULL, normed, T, gate, s->threads);
    product(l->up, NULL, normed, T, up, s->threads);
    for (size_t i = 0; i < rows * ffn; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    product(l->down, NULL, gate, T, y, s->threads);
    for (size_t i = 0; i < rows * hidden; i++)
        x[i] += y[i];
    free(normed);
    free(y);
    free(q);
    free(o);
    free(gate);
    free(up);
}

/* Logits, a few rows at a time so that they take little memory, and the likelihoods of the tokens that followed. */
static void likelihoods(struct pass *s, int64_t t0, int T, const double *x)
{
    enum { BLOCK = 32 };
    size_t hidden = (size_t)s->m->shape.hidden, vocab = (size_t)s->m->shape.vocab;
    double *normed = need(BLOCK * hidden, sizeof *normed), *logits = need(BLOCK * vocab, sizeof *logits);
    for (int from = 0; from < T; from += BLOCK) {
        int rows = T - from < BLOCK ? T - from : BLOCK;
        rms_norm(s->m, s->m->out_norm, x + (size_t)from * hidden, rows, normed);
        product(s->m->output, NULL, normed, rows, logits, s->threads);
        for (int r = 0; r < rows; r++) {
            const double *l = logits + (size_t)r * vocab;
            size_t t = (size_t)t0 + (size_t)from + (size_t)r;
            double largest = -INFINITY, sum = 0;
            for (size_t i = 0; i < vocab; i++)
                largest = fmax(largest, l[i]);
            for (size_t i = 0; i < vocab; i++)
                sum += exp(l[i] - largest);
            if (t + 1 < s->n)
                s->out->nll[t] = largest + log(sum) - l[s->tokens[t + 1]];
            else
                memcpy(s->out->last, l, vocab * sizeof *l);
        }
    }
    free(normed);
    free(logits);
}

static void embed(const struct pass *s, int64_t t0, int T, double *x)
{
    size_t hidden = (size_t)s->m->shape.hidden, row_bytes = s->m->embed->bytes / (size_t)s->m->embed->ne[1];
    float *f = need(hidden, sizeof *f);
    for (int t = 0; t < T; t++) {
        const char *row = (const char *)s->m->embed->data + (size_t)s->tokens[t0 + t] * row_bytes;
        quant_to_float(s->m->embed->type, row, f, hidden);
        for (size_t i = 0; i < hidden; i++)
            x[(size_t)t * hidden + i] = (double)f[i];
    }
    free(f);
}

static void take_results(struct pass *s)
{
    struct oracle_llama *o = s->out;
    size_t caches = (size_t)(o->layers * o->cascades), rows = (size_t)(s->p->sinks + s->p->window + s->p->span);
    int64_t *held = need(rows, sizeof *held);
    o->held = oracle_cascade_held(&s->cascade[0], held);
    o->kept = need(caches * (size_t)o->held, sizeof *o->kept);
    o->score = need(caches * (size_t)o->held, sizeof *o->score);
    o->closest = INFINITY;
    for (size_t i = 0; i < caches; i++) {
        oracle_cascade_held(&s->cascade[i], held);
        for (size_t j = 0; j < (size_t)o->held; j++) {
            o->kept[i * (size_t)o->held + j] = held[j];
            o->score[i * (size_t)o->held + j] = s->cascade[i].score[held[j]];
        }
        o->closest = fmin(o->closest, s->cascade[i].closest);
    }
    free(held);
}

void oracle_llama_run(struct oracle_llama *out, const struct model *m, const struct cascade_params *p,
                      const int32_t *tokens, size_t n, int threads)
{
    const struct model_shape *sh = &m->shape;
    int pairs = sh->rope_dim / 2;
    size_t token = (size_t)(sh->kv_heads * sh->head_dim), layers = (size_t)sh->layers;
    *out = (struct oracle_llama){.layers = sh->layers, .cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : sh->kv_heads};
    struct pass s = {.m = m, .p = p, .out = out, .tokens = tokens, .n = n, .threads = threads};
    double *freq = need((size_t)pairs, sizeof *freq), *x = need((size_t)p->stride * (size_t)sh->hidden, sizeof *x);
    for (int i = 0; i < pairs; i++)
        freq[i] = frequency(m, i);
    s.rope = (struct oracle_rope){pairs, freq, sh->rope_interleaved};
    s.cascade = need(layers * (size_t)out->cascades, sizeof *s.cascade);
    s.k = need(layers * n * token, sizeof *s.k);
    s.v = need(layers * n * token, sizeof *s.v);
    out->nll = need(n, sizeof *out->nll);
    out->last = need((size_t)sh->vocab, sizeof *out->last);
    for (size_t i = 0; i < layers * (size_t)out->cascades; i++)
        oracle_cascade_open(&s.cascade[i], p);
    for (size_t t0 = 0; t0 < n; t0 += (size_t)p->stride) {
        int T = n - t0 < (size_t)p->stride ? (int)(n - t0) : p->stride;
        embed(&s, (int64_t)t0, T, x);
        for (int layer = 0; layer < sh->layers; layer++)
            layer_forward(&s, layer, (int64_t)t0, T, x);
        likelihoods(&s, (int64_t)t0, T, x);
    }
    take_results(&s);
    for (size_t i = 0; i < layers * (size_t)out->cascades; i++)
        oracle_cascade_close(&s.cascade[i]);
    free(s.cascade);
    free(s.k);
    free(s.v);
    free(freq);
    free(x);
}

void oracle_llama_free(struct oracle_llama *o)
{
    free(o->nll);
    free(o->last);
    free(o->kept);
    free(o->score);
    *o = (struct oracle_llama){0};
}
