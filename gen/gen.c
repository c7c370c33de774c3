/* Kernel specs in, CUDA C out. */
#include "gen_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char prelude_begin[] = "/* ---- prelude ---- */", prelude_end[] = "/* ---- end of prelude ---- */";

/* What gen_render hands to its protected half. */
struct render_call {
    const char *kernel, *gpu;
    const struct gen_param *params;
    int nparams;
    struct gen_kernel *out;
    const struct gen_kernel *k; /* for the host's prelude */
    char *text;
};

static void get_params(lua_State *L, struct gen_kernel *k)
{
    lua_getfield(L, -1, "params");
    k->nparams = (int)luaL_len(L, -1);
    if (k->nparams > GEN_PARAMS_MAX)
        luaL_error(L, "%s: more than %d parameters", k->name, GEN_PARAMS_MAX);
    for (int i = 0; i < k->nparams; i++) {
        lua_geti(L, -1, i + 1);
        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);
        snprintf(k->param[i].name, sizeof k->param[i].name, "%s", luaL_checkstring(L, -2));
        k->param[i].value = luaL_checkinteger(L, -1);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

static void get_places(lua_State *L, struct gen_kernel *k)
{
    lua_getfield(L, -1, "files");
    k->nfiles = (int)luaL_len(L, -1);
    if (k->nfiles > (int)(sizeof k->file / sizeof *k->file))
        luaL_error(L, "%s: more than %d files make one kernel", k->name, (int)(sizeof k->file / sizeof *k->file));
    for (int i = 0; i < k->nfiles; i++) {
        lua_geti(L, -1, i + 1);
        snprintf(k->file[i], sizeof k->file[i], "%s", luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_getfield(L, -1, "file_at");
    lua_getfield(L, -2, "line_at");
    k->nlines = (int)luaL_len(L, -1);
    k->place = malloc((size_t)k->nlines * sizeof *k->place + 1);
    if (!k->place)
        luaL_error(L, "out of memory for %d lines", k->nlines);
    for (int i = 0; i < k->nlines; i++) {
        lua_geti(L, -2, i + 1);
        lua_geti(L, -2, i + 1);
        k->place[i].file = (int)lua_tointeger(L, -2) - 1;
        k->place[i].line = (int)lua_tointeger(L, -1);
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
}

/* Calls a function of spec.lua with kernel, GPU and parameters; its table stays on top, its plain fields go into c->out. */
static void get_spec(lua_State *L, const struct render_call *c, const char *function)
{
    struct gen_kernel *k = c->out;
    gen_push_function(L, "gen/spec.lua", function);
    lua_pushstring(L, c->kernel);
    lua_pushstring(L, c->gpu);
    gen_push_params(L, c->params, c->nparams);
    lua_call(L, 3, 1);
    gen_get_text(L, "name", k->name, sizeof k->name);
    gen_get_text(L, "kernel", k->kernel, sizeof k->kernel);
    gen_get_text(L, "arch", k->arch, sizeof k->arch);
    k->sm = (int)gen_get_integer(L, "sm");
    k->threads = (unsigned)gen_get_integer(L, "threads");
    k->smem = (unsigned)gen_get_integer(L, "smem");
    k->nspec = (int)gen_get_integer(L, "nspec");
    get_params(L, k);
}

static int render_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    get_spec(L, c, "render");
    get_places(L, c->out);
    lua_getfield(L, -1, "text");
    c->out->source = gen_copy_text(L, &c->out->source_len);
    return 0;
}

static int resolve_protected(lua_State *L)
{
    get_spec(L, lua_touserdata(L, 1), "outline");
    return 0;
}

static int fill_kernel(struct gen *g, lua_CFunction how, const char *kernel, const char *gpu,
                       const struct gen_param *params, int nparams, struct gen_kernel *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (strlen(gpu) >= sizeof out->gpu)
        return err_set(err, "the name of the GPU is too long: %.200s", gpu);
    struct render_call c = {.kernel = kernel, .gpu = gpu, .params = params, .nparams = nparams, .out = out};
    strcpy(out->gpu, gpu);
    if (gen_protect(g, how, &c, err) != 0) {
        gen_kernel_free(out);
        return -1;
    }
    return 0;
}

int gen_render(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
               struct gen_kernel *out, struct err *err)
{
    return fill_kernel(g, render_protected, kernel, gpu, params, nparams, out, err);
}

int gen_resolve(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
                struct gen_kernel *out, struct err *err)
{
    return fill_kernel(g, resolve_protected, kernel, gpu, params, nparams, out, err);
}

static int essence_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    gen_push_function(L, "gen/spec.lua", "essence");
    lua_pushstring(L, c->kernel);
    lua_pushstring(L, c->gpu);
    gen_push_params(L, c->params, c->nparams);
    lua_call(L, 3, 1);
    c->text = gen_copy_text(L, NULL);
    return 0;
}

int gen_essence(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
                char **text, struct err *err)
{
    struct render_call c = {.kernel = kernel, .gpu = gpu, .params = params, .nparams = nparams};
    int status = gen_protect(g, essence_protected, &c, err);
    *text = c.text;
    return status;
}

static int check_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    gen_push_function(L, "gen/spec.lua", "check");
    lua_pushstring(L, c->kernel);
    lua_pushstring(L, c->gpu);
    gen_push_params(L, c->params, c->nparams);
    lua_call(L, 3, 0);
    return 0;
}

int gen_check(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
              struct err *err)
{
    struct render_call c = {.kernel = kernel, .gpu = gpu, .params = params, .nparams = nparams};
    return gen_protect(g, check_protected, &c, err);
}

void gen_kernel_free(struct gen_kernel *k)
{
    free(k->source);
    free(k->place);
    memset(k, 0, sizeof *k);
}

long gen_value(const struct gen_kernel *k, const char *name)
{
    for (int i = 0; i < k->nparams; i++)
        if (!strcmp(k->param[i].name, name))
            return k->param[i].value;
    assert(!"gen_value: the kernel has no such parameter");
    return 0;
}

static int host_prelude_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    gen_push_function(L, "gen/spec.lua", "host_prelude");
    lua_pushstring(L, c->k->kernel);
    lua_pushstring(L, c->k->gpu);
    gen_push_spec(L, c->k);
    lua_call(L, 3, 1);
    c->text = gen_copy_text(L, NULL);
    return 0;
}

int gen_host_text(struct gen *g, const struct gen_kernel *k, char **text, struct err *err)
{
    const char *begin = strstr(k->source, prelude_begin);
    const char *end = begin ? strstr(begin, prelude_end) : NULL;
    if (!end)
        return err_set(err, "%s: its text has no prelude block between the marker lines", k->name);
    struct render_call c = {.k = k};
    if (gen_protect(g, host_prelude_protected, &c, err) != 0)
        return -1;
    const char *rest = end + strlen(prelude_end);
    size_t head = (size_t)(begin - k->source), middle = strlen(c.text), tail = strlen(rest);
    *text = err_alloc(head + middle + tail + 1, 1, "the host's text of a kernel", err);
    if (*text) {
        memcpy(*text, k->source, head);
        memcpy(*text + head, c.text, middle);
        memcpy(*text + head + middle, rest, tail + 1);
    }
    free(c.text);
    return *text ? 0 : -1;
}
