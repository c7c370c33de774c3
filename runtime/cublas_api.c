#include "cublas_api.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int resolve(struct cublas_api *api, void *library, const char *path, struct err *err)
{
    const struct {
        void *slot;
        const char *symbol;
    } calls[] = {
#define CUBLAS_CALL_ROW(name, symbol, args) {&api->name, symbol},
        CUBLAS_CALLS(CUBLAS_CALL_ROW)
#undef CUBLAS_CALL_ROW
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *p = dlsym(library, calls[i].symbol);
        if (!p)
            return err_set(err, "%.300s is no cuBLASLt of CUDA 11 or newer: it lacks %s", path, calls[i].symbol);
        memcpy(calls[i].slot, &p, sizeof p);
    }
    return 0;
}

/* The newest library that a pattern finds, opened. */
static void *open_pattern(const char *pattern, char *path, size_t room)
{
    glob_t found;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = found.gl_pathc; i-- > 0 && !library;) {
            snprintf(path, room, "%s", found.gl_pathv[i]);
            library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        }
    globfree(&found);
    return library;
}

/* Where it was installed by a toolkit or with Python, or lies beside the binary. */
static void *look_around(char *path, size_t room)
{
    static const char *const patterns[] = {
        "/usr/local/cuda/lib64/libcublasLt.so.1[23]",
        "/usr/local/cuda-*/lib64/libcublasLt.so.1[23]",
        "/opt/cuda/lib64/libcublasLt.so.1[23]",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcublasLt.so.1[23]",
        "/usr/lib/python3*/*-packages/nvidia/*/lib/libcublasLt.so.1[23]",
        "/opt/*/lib/python3*/site-packages/nvidia/*/lib/libcublasLt.so.1[23]",
    };
    static const char *const homes[][2] = {
        {"CUDA_HOME", "lib64/libcublasLt.so.1[23]"},
        {"CUDA_PATH", "lib64/libcublasLt.so.1[23]"},
        {"VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/*/lib/libcublasLt.so.1[23]"},
        {"CONDA_PREFIX", "lib/libcublasLt.so.1[23]"},
        {"HOME", ".local/lib/python3*/site-packages/nvidia/*/lib/libcublasLt.so.1[23]"},
    };
    void *library = NULL;
    char pattern[1024];
    for (size_t i = 0; i < sizeof homes / sizeof *homes && !library; i++) {
        const char *home = getenv(homes[i][0]);
        if (home && home[0] && snprintf(pattern, sizeof pattern, "%s/%s", home, homes[i][1]) < (int)sizeof pattern)
            library = open_pattern(pattern, path, room);
    }
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !library; i++)
        library = open_pattern(patterns[i], path, room);
    return library;
}

static void *open_library(char *path, size_t room, struct err *err)
{
    static const char *const sonames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    const char *wanted = getenv("WEIR_LIBCUBLAS");
    void *library = NULL;
    if (wanted && wanted[0]) {
        char pattern[1024];
        snprintf(path, room, "%s", wanted);
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        snprintf(pattern, sizeof pattern, "%.1000s/libcublasLt.so*", wanted);
        if (!library && !(library = open_pattern(pattern, path, room)))
            err_set(err, "WEIR_LIBCUBLAS is %.300s, which is neither libcublasLt nor a folder with it", wanted);
        return library;
    }
    for (size_t i = 0; i < sizeof sonames / sizeof *sonames && !library; i++) {
        snprintf(path, room, "%s", sonames[i]);
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    }
    if (!library && !(library = look_around(path, room)))
        err_set(err, "cuBLAS is not here, and prompts on a GPU need it; install it with CUDA or as the Python package "
                     "nvidia-cublas, or set WEIR_LIBCUBLAS to libcublasLt.so.13");
    return library;
}

int cublas_api_open(const struct cublas_api **out, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct cublas_api api;
    static void *library;
    char path[1024];
    int rc = 0;
    pthread_mutex_lock(&lock);
    if (!library) {
        void *opened = open_library(path, sizeof path, err);
        rc = opened ? resolve(&api, opened, path, err) : -1;
        if (rc == 0)
            library = opened;
        else if (opened)
            dlclose(opened);
    }
    *out = &api;
    pthread_mutex_unlock(&lock);
    return rc;
}
