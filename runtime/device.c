#include "device.h"

int device_capture(struct device *dev, int (*enqueue)(void *user, struct err *err), void *user, void **graph,
                   struct err *err)
{
    struct err ending = {""};
    *graph = NULL;
    if (dev->capture_begin(dev, err) != 0)
        return -1;
    int enqueued = enqueue(user, err);
    if (dev->capture_end(dev, graph, enqueued == 0 ? err : &ending) == 0 && enqueued == 0)
        return 0;
    if (*graph)
        dev->release_graph(dev, *graph);
    *graph = NULL;
    return -1;
}
