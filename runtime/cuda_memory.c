/* The device `cuda`: memory on both sides, and what moves between them. */
#include "cuda_device.h"

enum { MB = 1 << 20, STAGED = 64 << 10 };

int cuda_alloc(struct device *dev, size_t bytes, devptr *out, struct err *err)
{
    struct cuda *c = dev->state;
    cu_deviceptr p = 0;
    if (cuda_enter_uncaptured(c, "memory is allocated", err) != 0)
        return -1;
    int status = c->api->memory_alloc(&p, bytes ? bytes : 1);
    if (status == CU_OUT_OF_MEMORY) {
        size_t left = 0, total = 0;
        c->api->memory_info(&left, &total);
        return err_set(
            err,
            "out of GPU memory: %zu MB are wanted, %zu of %zu MB are free on %s; a smaller window or stride needs less",
            bytes / MB, left / MB, total / MB, dev->facts.name);
    }
    if (cuda_check(c, status, err, "allocating %zu bytes on the GPU", bytes) != 0)
        return -1;
    *out = p;
    return 0;
}

void cuda_release(struct device *dev, devptr p)
{
    struct cuda *c = dev->state;
    if (p && cuda_enter(c, NULL) == 0)
        c->api->memory_free(p);
}

/* Ordered with the launches. src may be reused at once: the driver copies a small piece of pageable memory aside before it
 * returns, and a large one is waited for. */
int cuda_upload(struct device *dev, devptr dst, const void *src, size_t bytes, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "memory is copied to the GPU", err) != 0)
        return -1;
    if (bytes == 0)
        return 0;
    if (cuda_check(c, c->api->upload(dst, src, bytes, c->stream), err, "copying %zu bytes to the GPU, after %s", bytes,
                   c->last) != 0)
        return -1;
    return bytes > STAGED ? cuda_sync(dev, err) : 0;
}

int cuda_download(struct device *dev, void *dst, devptr src, size_t bytes, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "memory is copied from the GPU", err) != 0)
        return -1;
    if (bytes == 0)
        return cuda_sync(dev, err);
    if (cuda_check(c, c->api->download(dst, src, bytes, c->stream), err, "copying %zu bytes from the GPU, after %s",
                   bytes, c->last) != 0)
        return -1;
    return cuda_sync(dev, err);
}

int cuda_fill(struct device *dev, devptr dst, unsigned char byte, size_t bytes, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter(c, err) != 0)
        return -1;
    if (bytes == 0)
        return 0;
    return cuda_check(c, c->api->fill(dst, byte, bytes, c->stream), err, "filling %zu bytes on the GPU, after %s",
                      bytes, c->last);
}

int cuda_alloc_pinned(struct device *dev, size_t bytes, void **out, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "memory is allocated", err) != 0)
        return -1;
    return cuda_check(c, c->api->host_alloc(out, bytes ? bytes : 1, CU_HOST_PORTABLE), err,
                      "allocating %zu bytes of page-locked memory", bytes);
}

void cuda_release_pinned(struct device *dev, void *p)
{
    struct cuda *c = dev->state;
    if (p && cuda_enter(c, NULL) == 0)
        c->api->host_free(p);
}

int cuda_upload_async(struct device *dev, devptr dst, const void *pinned, size_t bytes, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter(c, err) != 0)
        return -1;
    return cuda_check(c, c->api->upload(dst, pinned, bytes, c->stream), err, "copying %zu bytes to the GPU, after %s",
                      bytes, c->last);
}

int cuda_download_async(struct device *dev, void *pinned, devptr src, size_t bytes, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter(c, err) != 0)
        return -1;
    return cuda_check(c, c->api->download(pinned, src, bytes, c->stream), err,
                      "copying %zu bytes from the GPU, after %s", bytes, c->last);
}

int cuda_memory_left(struct device *dev, size_t *bytes, struct err *err)
{
    struct cuda *c = dev->state;
    size_t total;
    if (cuda_enter(c, err) != 0)
        return -1;
    return cuda_check(c, c->api->memory_info(bytes, &total), err, "asking how much GPU memory is free");
}
