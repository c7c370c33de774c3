#ifndef WEIR_EMU_MEMORY_H
#define WEIR_EMU_MEMORY_H

/* Device memory of the emulator: allocations far apart in one range of addresses, each with its history. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../runtime/err.h"

struct global_cell { /* two bytes of device memory: serial number of a block << 32 | stamp of the access; 0 none */
    uint64_t write;  /* bit 63: by an atomic */
    uint64_t read;   /* bit 63: several blocks of the same launch have read */
};

struct allocation {
    unsigned char *base;
    size_t bytes;
    bool live;
    unsigned char *written;   /* a bit for each byte; released with the allocation */
    struct global_cell *cell; /* [(bytes + 1) / 2]; released with the allocation */
};

struct memory; /* opaque */
/* Reserves the range of addresses. -1 with *err where the system refuses. */
int memory_open(struct memory **out, struct err *err);
void memory_close(struct memory *m);

/* Fresh bytes hold 0xff. NULL with *err filled when memory is out. */
void *memory_alloc(struct memory *m, size_t bytes, struct err *err);
/* -1 when p is not what memory_alloc returned, or was released before. */
int memory_release(struct memory *m, void *p);

/* The allocation that p lies in or near (dead ones included, while their addresses are not in use again), or NULL. */
struct allocation *memory_find(struct memory *m, const void *p);
/* Whether p is an address of device memory at all, allocated or not. */
bool memory_owns(const struct memory *m, const void *p);

/* 0 when [p, p + bytes) lies in one live allocation, else -1 with *err saying where it lies. */
int memory_check_range(struct memory *m, const void *p, size_t bytes, const char *what, struct err *err);
/* Notes that all of a range was written (that memory_check_range let pass). */
void memory_mark_written(struct memory *m, const void *p, size_t bytes);
/* 0 when all of a range that memory_check_range let pass was written since it was allocated. */
int memory_check_written(struct memory *m, const void *p, size_t bytes, const char *what, struct err *err);

#endif
