#include "session.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "device.h"
#include "memory.h"

static const char default_model[] = "SmolLM2-135M-Instruct.Q4_1.gguf";

void session_options_init(struct session_options *o, bool int8)
{
    memset(o, 0, sizeof *o);
    o->gpu = -1;
    const struct option rows[] = {
        {"--model", "-m", OPTION_TEXT, &o->model, "MODEL",
         "a GGUF file or a folder of safetensors (WEIR_MODEL, else what `make model` fetched)", 0, 0, NULL},
        {"--threads", "-t", OPTION_INT, &o->backend.threads, "K", "CPU threads; 0: one a core (0)", 0, 1024, NULL},
        {"--cpu", NULL, OPTION_FLAG, &o->cpu, NULL, "run on the CPU even where there is a GPU", 0, 0, NULL},
        {"--gpu", NULL, OPTION_INT, &o->gpu, "N", "run on GPU number N or fail (0 where there is one, else the CPU)", 0,
         255, NULL},
        {"--set", NULL, OPTION_TEXT, &o->backend.set, "NAME=VALUE,..",
         "tile parameters of the GPU's kernels, e.g. bm=128,bn=64", 0, 0, NULL},
        {int8 ? "--int8" : NULL, NULL, OPTION_FLAG, &o->backend.int8_activations, NULL,
         "8-bit activations: faster decoding, about 0.05 nats a token worse", 0, 0, NULL},
        {0},
    };
    _Static_assert(sizeof rows <= sizeof o->table, "the table is too small");
    memcpy(o->table, rows, sizeof rows);
}

/* NAME=VALUE[,NAME=VALUE...] with whole numbers. */
static int check_set(const char *set, struct err *err)
{
    for (const char *at = set;; at++) {
        size_t name = strcspn(at, "=,");
        char *end;
        if (name == 0 || at[name] != '=')
            break;
        (void)strtol(at + name + 1, &end, 10);
        if (end == at + name + 1 || (*end && *end != ','))
            break;
        if (!*end)
            return 0;
        at = end;
    }
    return err_set(err, "--set %s: must be NAME=NUMBER pairs like bm=128,bn=64", set);
}

int session_model_path(const char *given, char *path, size_t room, struct err *err)
{
    const char *env = getenv("WEIR_MODEL"), *cache = getenv("WEIR_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    int n;
    if (given || (env && *env)) {
        n = snprintf(path, room, "%s", given ? given : env);
        return n < (int)room ? 0 : err_set(err, "--model: the path is too long");
    }
    if (cache && *cache)
        n = snprintf(path, room, "%s/%s", cache, default_model);
    else if (xdg && *xdg)
        n = snprintf(path, room, "%s/weir/%s", xdg, default_model);
    else if (home && *home)
        n = snprintf(path, room, "%s/.cache/weir/%s", home, default_model);
    else
        return err_set(err, "no model: give -m MODEL, or set WEIR_MODEL");
    if (n >= (int)room || access(path, R_OK) != 0)
        return err_set(err, "no model: give -m MODEL, set WEIR_MODEL, or run `make model`, which puts one at %s", path);
    return 0;
}

int session_open(struct session *s, const struct session_options *o, struct err *err)
{
    char path[PATH_MAX];
    memset(s, 0, sizeof *s);
    s->options = o;
    if (o->cpu && o->gpu >= 0) {
        err_set(err, "--cpu and --gpu exclude each other");
        return CMD_USAGE;
    }
    if (o->backend.set && check_set(o->backend.set, err))
        return CMD_USAGE;
    if (session_model_path(o->model, path, sizeof path, err))
        return CMD_FAILED;
    if (!o->cpu)
        device_cuda_warm(o->gpu > 0 ? o->gpu : 0);
    if (weir_model_open(&s->model, path, weir_error_of(err)) == 0)
        return CMD_OK;
    device_cuda_cool();
    return CMD_FAILED;
}

static void show_loading(void *user, size_t done, size_t all)
{
    (void)user;
    progress_line("loading weights: %.1f of %.1f GB", (double)done / 1e9, (double)all / 1e9);
}

struct backend_options session_machine(const struct session_options *so)
{
    struct backend_options o = so->backend;
    o.kind = so->cpu ? BACKEND_CPU : so->gpu >= 0 ? BACKEND_CUDA : BACKEND_AUTO;
    o.gpu = so->gpu > 0 ? so->gpu : 0;
    o.progress = show_loading;
    o.say = cmd_say;
    return o;
}

void session_warn(const struct session *s)
{
    const struct cascade_params *p = &s->stream->cascade;
    int64_t positions = (int64_t)p->sinks + p->window + p->stride;
    int trained = s->model->model.shape.ctx_train;
    if (s->stream->note[0])
        fprintf(stderr, "weir: %s\n", s->stream->note);
    if (p->positions == POSITIONS_CACHE && positions > trained)
        fprintf(stderr, "weir: warning: sinks + window + stride = %lld positions, and the model was trained with %d\n",
                (long long)positions, trained);
}

int session_start(struct session *s, const struct cascade_params *p, const struct sampler_params *sampling,
                  struct err *err)
{
    struct sampler_params defaults = sampler_defaults();
    struct backend_options o = session_machine(s->options);
    weir_stream_close(s->stream);
    int failed = weir_stream_start(&s->stream, s->model, p, sampling ? sampling : &defaults, &o, err);
    progress_line(NULL);
    if (failed) { /* a window that the memory does not hold is an option gone wrong */
        bool fits = o.kind == BACKEND_CUDA || memory_check(backend_cpu_bytes(&s->model->model, p), "", NULL) == 0;
        return fits ? CMD_FAILED : CMD_USAGE;
    }
    session_warn(s);
    return CMD_OK;
}

int session_begin(struct session *s, const struct session_options *o, struct cascade_options *c,
                  const struct sampler_params *sampling, struct err *err)
{
    struct cascade_options copy = *c; /* a contradiction needs no model to be seen */
    memset(s, 0, sizeof *s);
    if (cascade_options_finish(&copy, 0, err))
        return CMD_USAGE;
    int status = session_open(s, o, err);
    if (status != CMD_OK)
        return status;
    status = cascade_options_finish(c, s->model->model.shape.ctx_train, err) ? CMD_USAGE
                                                                             : session_start(s, &c->p, sampling, err);
    if (status != CMD_OK)
        session_close(s);
    return status;
}

void session_close(struct session *s)
{
    weir_stream_close(s->stream);
    weir_model_close(s->model);
    device_cuda_cool();
    memset(s, 0, sizeof *s);
}

void session_describe_cache(const struct session *s, char *out, size_t room)
{
    const struct cascade_params *p = &s->stream->cascade;
    int64_t reach = weir_stream_reach(s->stream);
    char far[32];
    if (reach == INT64_MAX)
        snprintf(far, sizeof far, "unbounded");
    else
        snprintf(far, sizeof far, "%lld tokens", (long long)reach);
    snprintf(out, room, "cache: window %d (%d x %d, span %d), %d sinks, reach %s, %.1f MB", p->window, p->subcaches,
             p->window / p->subcaches, p->span, p->sinks, far, (double)weir_stream_cache_bytes(s->stream) / 1e6);
}
