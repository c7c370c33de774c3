/* libweir: kernels by themselves, for programs that have a CUDA context of their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_api.h"
#include "kernel.h"
#include "weir_private.h"

struct weir_kernel {
    struct kernel kernel;
    const struct cuda_api *api; /* NULL until it is loaded */
    cu_module module;
    cu_function function;
};

int weir_gpu_name(int ordinal, char *name, size_t room, struct weir_error *error)
{
    struct err *err = weir_err(error);
    struct device_facts facts;
    struct gen *gen;
    char known[GEN_GPU_MAX];
    if (device_cuda_facts(ordinal, &facts, err) || gen_open(&gen, NULL, err))
        return -1;
    int rc = gen_gpu_name(gen, facts.name, facts.sm, known, err);
    gen_close(gen);
    if (rc == 0 && snprintf(name, room, "%s", known) >= (int)room)
        rc = err_set(err, "the name of GPU %d, '%.100s', does not fit %zu bytes", ordinal, known, room);
    return rc;
}

int weir_kernel_open(struct weir_kernel **kernel, const char *name, const char *gpu,
                     const struct weir_parameter *parameters, int count, struct weir_error *error)
{
    struct err *err = weir_err(error);
    struct gen_param param[GEN_PARAMS_MAX];
    struct kernel_cache cache;
    struct gen *gen = NULL;
    *kernel = NULL;
    if (count < 0 || count > GEN_PARAMS_MAX)
        return err_set(err, "%s: %d parameters; 0 to %d can be given", name, count, GEN_PARAMS_MAX);
    for (int i = 0; i < count; i++)
        param[i] = (struct gen_param){parameters[i].name, parameters[i].value};
    struct weir_kernel *k = err_calloc(1, sizeof *k, "a kernel", err);
    if (!k)
        return -1;
    kernel_cache_default(&cache);
    int rc = gen_open(&gen, NULL, err);
    if (rc == 0)
        rc = kernel_build(gen, &cache, name, gpu, param, count, &k->kernel, err);
    gen_close(gen);
    if (rc != 0) {
        free(k);
        return -1;
    }
    *kernel = k;
    return 0;
}

void weir_kernel_close(struct weir_kernel *kernel)
{
    if (!kernel)
        return;
    if (kernel->module)
        kernel->api->module_unload(kernel->module);
    kernel_free(&kernel->kernel);
    free(kernel);
}

struct weir_kernel_facts weir_kernel_facts(const struct weir_kernel *kernel)
{
    const struct kernel *k = &kernel->kernel;
    return (struct weir_kernel_facts){
        .symbol = k->gen.name,
        .source = k->gen.source,
        .cubin = k->cubin.image,
        .cubin_bytes = k->cubin.bytes,
        .threads = k->gen.threads,
        .shared_bytes = k->gen.smem,
        .registers = k->cubin.regs,
        .spill_bytes = k->cubin.spill_store + k->cubin.spill_load,
        .warning = k->warning,
    };
}

long weir_kernel_parameter(const struct weir_kernel *kernel, const char *name, long missing)
{
    const struct gen_kernel *g = &kernel->kernel.gen;
    for (int i = 0; i < g->nparams; i++)
        if (!strcmp(g->param[i].name, name))
            return g->param[i].value;
    return missing;
}

/* Turns a CUresult into 0 or -1. */
static int check(const struct weir_kernel *k, const struct cuda_api *api, int status, const char *what, struct err *err)
{
    char text[256];
    if (status == CU_SUCCESS)
        return 0;
    cuda_error_text(api, status, text, sizeof text);
    return err_set(err, "%s %s: %s", what, k->kernel.gen.name, text);
}

int weir_kernel_load(struct weir_kernel *kernel, struct weir_error *error)
{
    struct err *err = weir_err(error);
    const struct kernel *k = &kernel->kernel;
    const struct cuda_api *api;
    cu_module module = NULL;
    if (kernel->module)
        return err_set(err, "%s is loaded already", k->gen.name);
    if (cuda_api_open(&api, err))
        return -1;
    if (check(kernel, api, api->module_load(&module, k->cubin.image), "loading", err))
        return -1;
    if (check(kernel, api, api->module_function(&kernel->function, module, k->gen.name), "loading", err) ||
        (k->gen.smem > 0 &&
         check(kernel, api,
               api->function_set(kernel->function, CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)k->gen.smem),
               "asking for the shared memory of", err))) {
        api->module_unload(module);
        return -1;
    }
    kernel->api = api;
    kernel->module = module;
    return 0;
}

int weir_kernel_launch(struct weir_kernel *kernel, const unsigned grid[3], void **arguments, void *stream,
                       struct weir_error *error)
{
    struct err *err = weir_err(error);
    const struct gen_kernel *g = &kernel->kernel.gen;
    if (!kernel->module)
        return err_set(err, "%s is launched before it is loaded", g->name);
    return check(kernel, kernel->api,
                 kernel->api->launch(kernel->function, grid[0], grid[1], grid[2], g->threads, 1, 1, g->smem, stream,
                                     arguments, NULL),
                 "launching", err);
}
