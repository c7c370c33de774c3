#include "cuda_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

void cuda_error_text(const struct cuda_api *api, int status, char *text, size_t size)
{
    const char *name = NULL, *what = NULL;
    if (api->error_name(status, &name) != CU_SUCCESS || !name)
        name = "CUDA error";
    if (api->error_string(status, &what) != CU_SUCCESS || !what)
        what = "no description";
    snprintf(text, size, "%s (%d, %s)", name, status, what);
}

static int resolve(struct cuda_api *api, void *library, const char *path, struct err *err)
{
    const struct {
        void *slot;
        const char *symbol;
    } calls[] = {
#define CUDA_CALL_ROW(name, symbol, args) {&api->name, symbol},
        CUDA_CALLS(CUDA_CALL_ROW)
#undef CUDA_CALL_ROW
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *p = dlsym(library, calls[i].symbol);
        if (!p)
            return err_set(err, "the driver (%.200s) lacks %s; CUDA 12.0 or newer is needed", path, calls[i].symbol);
        memcpy(calls[i].slot, &p, sizeof p);
    }
    return 0;
}

int cuda_api_open(const struct cuda_api **out, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct cuda_api api;
    static void *library;
    const char *path = getenv("WEIR_LIBCUDA");
    int rc = 0;
    if (!path || !path[0])
        path = "libcuda.so.1";
    pthread_mutex_lock(&lock);
    if (!library) {
        void *opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!opened) {
            rc = err_set(err, "no CUDA driver here: %.300s", dlerror());
            goto done;
        }
        timeline("driver's library");
        rc = resolve(&api, opened, path, err);
        int status = rc == 0 ? api.init(0) : CU_SUCCESS;
        timeline("driver");
        if (status == CU_NO_DEVICE) {
            rc = err_set(err, "the CUDA driver finds no GPU");
        } else if (status == CU_STUB_LIBRARY) {
            rc = err_set(err, "%.300s is the toolkit's stub, not a driver", path);
        } else if (status != CU_SUCCESS) {
            char text[256];
            cuda_error_text(&api, status, text, sizeof text);
            rc = err_set(err, "the CUDA driver does not start: %s", text);
        }
        if (rc == 0)
            library = opened;
        else
            dlclose(opened);
    }
    *out = &api;
done:
    pthread_mutex_unlock(&lock);
    return rc;
}
