/* Opens the driver and a GPU's context while something else goes on. */
#include <pthread.h>
#include <stdbool.h>

#include "cuda_device.h"
#include "timeline.h"

static struct {
    pthread_t thread;
    bool started;
    int ordinal;
    const struct cuda_api *api; /* NULL unless the context is retained */
    int device;
} warm;

static void *open_context(void *unused)
{
    const struct cuda_api *api;
    cu_context context;
    (void)unused;
    if (cuda_api_open(&api, NULL) != 0 || api->device_get(&warm.device, warm.ordinal) != CU_SUCCESS ||
        api->context_retain(&context, warm.device) != CU_SUCCESS)
        return NULL;
    warm.api = api;
    timeline("GPU's context");
    return NULL;
}

void device_cuda_warm(int ordinal)
{
    if (warm.started)
        return;
    warm.ordinal = ordinal;
    warm.api = NULL;
    warm.started = pthread_create(&warm.thread, NULL, open_context, NULL) == 0;
}

void device_cuda_cool(void)
{
    if (!warm.started)
        return;
    pthread_join(warm.thread, NULL);
    warm.started = false;
    if (warm.api)
        warm.api->context_release(warm.device);
}
