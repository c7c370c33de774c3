/* libweir: streams. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cascade_options.h"
#include "llama.h"
#include "weir_private.h"

/* --- the public structures and the program's own --------------------------------------------------------------------------------- */

static struct weir_cascade public_cascade(const struct cascade_params *p)
{
    struct weir_cascade c = {
        .sinks = p->sinks,
        .subcaches = p->subcaches,
        .window = p->window,
        .span = p->span,
        .stride = p->stride,
        .ema = p->ema,
        .eager = p->eager,
        .reduction = (enum weir_reduction)p->reduction,
        .policy = (enum weir_policy)p->policy,
        .positions = (enum weir_positions)p->positions,
        .select = (enum weir_select)p->select,
        .span_score = (enum weir_span_score)p->span_score,
    };
    memcpy(c.every, p->every, sizeof c.every);
    return c;
}

static struct cascade_params own_cascade(const struct weir_cascade *c)
{
    struct cascade_params p = {
        .sinks = c->sinks,
        .subcaches = c->subcaches,
        .window = c->window,
        .span = c->span,
        .stride = c->stride,
        .ema = c->ema,
        .eager = c->eager != 0,
        .reduction = (enum cascade_reduction)c->reduction,
        .policy = (enum cascade_policy)c->policy,
        .positions = (enum cascade_positions)c->positions,
        .select = (enum cascade_select)c->select,
        .span_score = (enum cascade_span_score)c->span_score,
    };
    _Static_assert(sizeof p.every == sizeof c->every, "the library's limit is the program's");
    memcpy(p.every, c->every, sizeof p.every);
    return p;
}

static struct sampler_params own_sampling(const struct weir_sampling *s)
{
    return (struct sampler_params){
        .temperature = s->temperature,
        .top_k = s->top_k,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .repeat_penalty = s->repeat_penalty,
        .repeat_last = s->repeat_last,
        .seed = s->seed,
    };
}

static struct backend_options own_machine(const struct weir_stream_options *o)
{
    return (struct backend_options){
        .kind = o->machine == WEIR_MACHINE_CPU   ? BACKEND_CPU
                : o->machine == WEIR_MACHINE_GPU ? BACKEND_CUDA
                                                 : BACKEND_AUTO,
        .gpu = o->gpu,
        .threads = o->threads,
    };
}

struct weir_stream_options weir_stream_defaults(const struct weir_model *model)
{
    struct cascade_options c;
    struct sampler_params s = sampler_defaults();
    cascade_options_init(&c);
    (void)cascade_options_finish(&c, model->model.shape.ctx_train, NULL); /* the defaults agree with each other */
    return (struct weir_stream_options){
        .cascade = public_cascade(&c.p),
        .sampling = {s.temperature, s.top_k, s.top_p, s.min_p, s.repeat_penalty, s.repeat_last, s.seed},
    };
}

void weir_cascade_resize(struct weir_cascade *cascade, int window, int subcaches)
{
    struct cascade_options c;
    cascade_options_init(&c);
    c.p = own_cascade(cascade);
    c.p.window = window;
    c.p.subcaches = subcaches;
    c.p.span = cascade_defaults().span;
    c.window_given = c.subcaches_given = true;
    (void)cascade_options_finish(&c, 0, NULL); /* weir_stream_open says what is wrong with them */
    *cascade = public_cascade(&c.p);
}

static bool word(int v, int last)
{
    return v >= 0 && v <= last;
}

static int check_options(const struct weir_stream_options *o, struct err *err)
{
    const struct weir_cascade *c = &o->cascade;
    struct cascade_params p = own_cascade(c);
    struct sampler_params s = own_sampling(&o->sampling);
    if (!word((int)c->reduction, REDUCE_MEDIAN) || !word((int)c->policy, POLICY_HOMOGENEOUS) ||
        !word((int)c->positions, POSITIONS_ORIGINAL) || !word((int)c->select, SELECT_RANDOM) ||
        !word((int)c->span_score, SPAN_MEAN))
        return err_set(err, "the cascade's reduction, policy, positions, select or span_score is no value of its enum");
    if (o->gpu < 0 || o->threads < 0)
        return err_set(err, "gpu %d, threads %d: neither can be negative", o->gpu, o->threads);
    return cascade_check(&p, err) || sampler_check(&s, err) ? -1 : 0;
}

/* --- opening ------------------------------------------------------------------------------------------------------------------- */

int weir_stream_start(struct weir_stream **out, const struct weir_model *m, const struct cascade_params *p,
                      const struct sampler_params *sampling, const struct backend_options *o, struct err *err)
{
    struct weir_stream *s = err_calloc(1, sizeof *s, "a stream", err);
    *out = NULL;
    if (!s)
        return -1;
    s->m = m;
    s->cascade = *p;
    s->logits = err_alloc((size_t)m->model.shape.vocab, sizeof *s->logits, "logits", err);
    if (!s->logits || sampler_open(&s->sampler, sampling, m->model.shape.vocab, err) ||
        backend_open(&s->backend, &m->model, p, o, s->note, sizeof s->note, err)) {
        weir_stream_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int weir_stream_open(struct weir_stream **stream, const struct weir_model *model,
                     const struct weir_stream_options *options, struct weir_error *error)
{
    struct weir_stream_options o = options ? *options : weir_stream_defaults(model);
    *stream = NULL;
    if (check_options(&o, weir_err(error)))
        return -1;
    struct cascade_params p = own_cascade(&o.cascade);
    struct sampler_params sampling = own_sampling(&o.sampling);
    struct backend_options machine = own_machine(&o);
    return weir_stream_start(stream, model, &p, &sampling, &machine, weir_err(error));
}

void weir_stream_close(struct weir_stream *stream)
{
    if (!stream)
        return;
    if (stream->backend.close)
        stream->backend.close(&stream->backend);
    sampler_close(stream->sampler);
    free(stream->logits);
    free(stream);
}

void weir_stream_reset(struct weir_stream *stream)
{
    stream->backend.reset(&stream->backend);
    sampler_reset(stream->sampler);
    stream->where = LOGITS_NONE;
    stream->chat = (struct stream_chat){0};
}

const char *weir_stream_note(const struct weir_stream *stream)
{
    return stream->note;
}

/* --- tokens in, logits out ------------------------------------------------------------------------------------------------------- */

int weir_stream_chunk(struct weir_stream *s, const int32_t *tokens, int T, struct err *err)
{
    s->where = LOGITS_NONE;
    if (llama_forward(&s->backend, &s->m->model, tokens, T, err) < 0)
        return -1;
    for (int i = 0; i < T; i++)
        sampler_accept(s->sampler, tokens[i]);
    s->where = LOGITS_IN_BACKEND;
    s->row = T - 1;
    return 0;
}

int weir_stream_feed(struct weir_stream *stream, const int32_t *tokens, size_t count, struct weir_error *error)
{
    size_t stride = (size_t)stream->cascade.stride;
    for (size_t done = 0; done < count;) {
        size_t T = count - done < stride ? count - done : stride;
        if (weir_stream_chunk(stream, tokens + done, (int)T, weir_err(error)) < 0)
            return -1;
        done += T;
    }
    return 0;
}

const float *weir_stream_last(struct weir_stream *s, struct err *err)
{
    if (s->where == LOGITS_NONE) {
        err_set(err, "the stream has no token yet that another could follow");
        return NULL;
    }
    if (s->where == LOGITS_IN_BACKEND && s->backend.logits(&s->backend, s->row, 1, s->logits, err) < 0)
        return NULL;
    s->where = LOGITS_HERE;
    return s->logits;
}

int weir_stream_logits(struct weir_stream *stream, float *logits, struct weir_error *error)
{
    const float *last = weir_stream_last(stream, weir_err(error));
    if (last)
        memcpy(logits, last, (size_t)stream->m->model.shape.vocab * sizeof *logits);
    return last ? 0 : -1;
}

int weir_stream_sample(struct weir_stream *stream, int32_t *token, struct weir_error *error)
{
    struct backend *be = &stream->backend;
    if (stream->where == LOGITS_IN_BACKEND && be->pick) {
        int status = be->pick(be, stream->sampler, stream->row, token, weir_err(error));
        if (status <= 0)
            return status;
    }
    const float *last = weir_stream_last(stream, weir_err(error));
    if (last)
        *token = sampler_pick(stream->sampler, last);
    return last ? 0 : -1;
}

int64_t weir_stream_seen(const struct weir_stream *stream)
{
    return stream->backend.seen(&stream->backend);
}

size_t weir_stream_cache_bytes(const struct weir_stream *stream)
{
    return stream->backend.cache_bytes(&stream->backend);
}

int64_t weir_stream_reach(const struct weir_stream *stream)
{
    return cascade_reach(&stream->cascade);
}

/* --- files ----------------------------------------------------------------------------------------------------------------------- */

int weir_stream_save(struct weir_stream *stream, const char *path, struct weir_error *error)
{
    const struct model_shape *m = &stream->m->model.shape;
    struct err *err = weir_err(error);
    struct stream_head h = {
        .layers = m->layers,
        .kv_heads = m->kv_heads,
        .head_dim = m->head_dim,
        .vocab = m->vocab,
        .cache_type = stream->backend.cache_type,
        .cascade = stream->cascade,
        .seen = weir_stream_seen(stream),
        .chat = stream->chat,
    };
    if (stream->where != LOGITS_NONE && !weir_stream_last(stream, err))
        return -1;
    if (stream->where == LOGITS_NONE && h.seen > 0)
        return err_set(err, "%s: a stream that failed cannot be saved", path);
    if (sampler_save(stream->sampler, &h.sampler, err))
        return -1;
    h.logits = stream->where == LOGITS_NONE ? NULL : stream->logits;
    model_digest(&stream->m->model, h.model);
    int rc = stream_file_write(path, &h, &stream->backend, err);
    free(h.sampler.recent);
    return rc;
}

static int check_model(const struct weir_model *m, const struct stream_file *f, struct err *err)
{
    const struct model_shape *s = &m->model.shape;
    const struct stream_head *h = &f->head;
    unsigned char digest[sizeof h->model];
    model_digest(&m->model, digest);
    if (memcmp(digest, h->model, sizeof digest) == 0 && h->layers == s->layers && h->kv_heads == s->kv_heads &&
        h->head_dim == s->head_dim && h->vocab == s->vocab)
        return 0;
    return err_set(err, "%s: was saved with another model than %s", f->path,
                   m->model.gguf ? gguf_path(m->model.gguf) : "this one");
}

int weir_stream_resume(struct weir_stream **out, const struct weir_model *m, const struct stream_file *f,
                       const struct sampler_params *sampling, const struct backend_options *o, struct err *err)
{
    struct weir_stream *s;
    *out = NULL;
    if (check_model(m, f, err) || weir_stream_start(&s, m, &f->head.cascade, sampling, o, err))
        return -1;
    if (stream_file_load(f, &s->backend, err)) {
        weir_stream_close(s);
        return -1;
    }
    sampler_restore(s->sampler, &f->head.sampler);
    s->chat = f->head.chat;
    if (f->head.logits) {
        memcpy(s->logits, f->head.logits, (size_t)f->head.vocab * sizeof *s->logits);
        s->where = LOGITS_HERE;
    }
    if (f->head.cache_type != s->backend.cache_type && !s->note[0])
        snprintf(s->note, sizeof s->note, "%s: its cache is %s and becomes %s; the stream goes on, but not bit for bit",
                 f->path, quant_info(f->head.cache_type)->name, quant_info(s->backend.cache_type)->name);
    *out = s;
    return 0;
}

int weir_stream_load(struct weir_stream **stream, const struct weir_model *model, const char *path,
                     const struct weir_stream_options *options, struct weir_error *error)
{
    struct stream_file f;
    struct weir_stream_options o = options ? *options : (struct weir_stream_options){.machine = WEIR_MACHINE_ANY};
    struct backend_options machine = own_machine(&o);
    *stream = NULL;
    if (stream_file_open(&f, path, weir_err(error)))
        return -1;
    int rc = weir_stream_resume(stream, model, &f, &f.head.sampler.p, &machine, weir_err(error));
    stream_file_close(&f);
    return rc;
}
