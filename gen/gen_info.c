/* What the generator knows besides the text of kernels: GPUs, kernels, tuning spaces, bytes and operations. */
#include "gen_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One question to the Lua side, and where its answer goes. */
struct question {
    const char *kernel, *gpu, *name;
    int number;
    const struct gen_kernel *k;
    const struct gen_param *params;
    int nparams;
    void *answer;
    double *bytes, *flops;
};

static int gpu_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    struct gen_gpu *out = q->answer;
    gen_push_function(L, "gen/spec.lua", "gpu");
    lua_pushstring(L, q->gpu);
    lua_call(L, 1, 1);
    gen_get_text(L, "name", out->name, sizeof out->name);
    gen_get_text(L, "title", out->title, sizeof out->title);
    if (lua_getfield(L, -1, "source") == LUA_TSTRING)
        snprintf(out->source, sizeof out->source, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    const struct {
        const char *field;
        int *slot;
    } whole[] = {
        {"sm", &out->sm},
        {"smem_per_block", &out->smem_per_block},
        {"smem_per_sm", &out->smem_per_sm},
        {"smem_reserved", &out->smem_reserved},
        {"smem_unit", &out->smem_unit},
        {"regs_per_sm", &out->regs_per_sm},
        {"reg_unit", &out->reg_unit},
        {"threads_per_sm", &out->threads_per_sm},
        {"blocks_per_sm", &out->blocks_per_sm},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        *whole[i].slot = (int)gen_get_integer(L, whole[i].field);
    out->sms = (int)gen_get_number(L, "sms");
    out->dram_gbs = gen_get_number(L, "dram_gbs");
    out->clock_mhz = gen_get_number(L, "clock_mhz");
    out->fp32_tflops = gen_get_number(L, "fp32_tflops");
    out->tensor_tflops = gen_get_number(L, "tensor_tflops");
    out->l2_bytes = gen_get_number(L, "l2_bytes");
    out->memory_bytes = gen_get_number(L, "memory_bytes");
    return 0;
}

int gen_gpu(struct gen *g, const char *gpu, struct gen_gpu *out, struct err *err)
{
    struct question q = {.gpu = gpu, .answer = out};
    memset(out, 0, sizeof *out);
    return gen_protect(g, gpu_protected, &q, err);
}

static int gpu_name_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    gen_push_function(L, "gen/gpus.lua", "name_of");
    lua_pushstring(L, q->name);
    lua_pushinteger(L, q->number);
    lua_call(L, 2, 1);
    snprintf(q->answer, GEN_GPU_MAX, "%s", luaL_checkstring(L, -1));
    return 0;
}

int gen_gpu_name(struct gen *g, const char *title, int sm, char name[GEN_GPU_MAX], struct err *err)
{
    struct question q = {.name = title, .number = sm, .answer = name};
    return gen_protect(g, gpu_name_protected, &q, err);
}

/* Calls a function of list.lua that takes a flag and gives text. */
static int text_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    gen_push_function(L, "gen/list.lua", q->name);
    lua_pushboolean(L, q->number);
    lua_call(L, 1, 1);
    *(char **)q->answer = gen_copy_text(L, NULL);
    return 0;
}

int gen_list(struct gen *g, int json, char **text, struct err *err)
{
    struct question q = {.name = "list", .number = json, .answer = text};
    return gen_protect(g, text_protected, &q, err);
}

int gen_kernels(struct gen *g, char **names, struct err *err)
{
    struct question q = {.name = "names", .answer = names};
    return gen_protect(g, text_protected, &q, err);
}

static int has_param_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    gen_push_function(L, "gen/spec.lua", "has_param");
    lua_pushstring(L, q->kernel);
    lua_pushstring(L, q->name);
    lua_call(L, 2, 1);
    q->number = (int)lua_tointeger(L, -1);
    return 0;
}

int gen_has_param(struct gen *g, const char *kernel, const char *param, struct err *err)
{
    struct question q = {.kernel = kernel, .name = param};
    return gen_protect(g, has_param_protected, &q, err) == 0 ? q.number : -1;
}

static int space_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    struct gen_space *s = q->answer;
    gen_push_function(L, "gen/space.lua", "configs");
    lua_pushstring(L, q->kernel);
    lua_pushstring(L, q->gpu);
    gen_push_params(L, q->params, q->nparams);
    lua_call(L, 3, 2);
    int names = lua_gettop(L) - 1, configs = lua_gettop(L);
    s->ntile = (int)luaL_len(L, names);
    s->nconfigs = (int)luaL_len(L, configs);
    if (s->ntile > (int)(sizeof s->tile / sizeof *s->tile))
        return luaL_error(L, "%s: more than %d tile parameters", q->kernel, (int)(sizeof s->tile / sizeof *s->tile));
    s->config = calloc((size_t)s->nconfigs + 1, sizeof *s->config);
    if (!s->config)
        return luaL_error(L, "out of memory for %d configurations", s->nconfigs);
    for (int i = 0; i < s->ntile; i++) {
        lua_geti(L, names, i + 1);
        snprintf(s->tile[i], sizeof s->tile[i], "%s", luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    for (int i = 0; i < s->nconfigs; i++) {
        lua_geti(L, configs, i + 1);
        if (lua_getfield(L, -1, "broken") == LUA_TSTRING)
            snprintf(s->config[i].broken, sizeof s->config[i].broken, "%s", lua_tostring(L, -1));
        lua_getfield(L, -2, "values");
        for (int j = 0; j < s->ntile; j++) {
            lua_geti(L, -1, j + 1);
            s->config[i].value[j] = luaL_checkinteger(L, -1);
            lua_pop(L, 1);
        }
        lua_pop(L, 3);
    }
    return 0;
}

int gen_space(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
              struct gen_space *out, struct err *err)
{
    struct question q = {.kernel = kernel, .gpu = gpu, .params = params, .nparams = nparams, .answer = out};
    memset(out, 0, sizeof *out);
    if (gen_protect(g, space_protected, &q, err) != 0) {
        gen_space_free(out);
        return -1;
    }
    return 0;
}

void gen_space_free(struct gen_space *s)
{
    free(s->config);
    memset(s, 0, sizeof *s);
}

static int work_protected(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    gen_push_function(L, "gen/spec.lua", "work");
    lua_pushstring(L, q->k->kernel);
    lua_pushstring(L, q->k->gpu);
    gen_push_spec(L, q->k);
    gen_push_params(L, q->params, q->nparams);
    lua_call(L, 4, 2);
    *q->bytes = luaL_checknumber(L, -2);
    *q->flops = luaL_checknumber(L, -1);
    return 0;
}

int gen_work(struct gen *g, const struct gen_kernel *k, const struct gen_param *sizes, int nsizes, double *bytes,
             double *flops, struct err *err)
{
    struct question q = {.k = k, .params = sizes, .nparams = nsizes, .bytes = bytes, .flops = flops};
    return gen_protect(g, work_protected, &q, err);
}
