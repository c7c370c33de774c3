#ifndef WEIR_MEMORY_H
#define WEIR_MEMORY_H

#include <stddef.h>

#include "err.h"

/* Bytes that this process can still use: what the system calls available, or the control group's limit if less. SIZE_MAX where
 * neither can be read. */
size_t memory_available(void);

/* The most bytes that this process had in memory at a time, mapped files included. */
size_t memory_peak(void);

/* Asked before a large allocation, since the system may promise more than it has: returns 0, or -1 with *err saying what
 * wants how much and how much there is. */
int memory_check(size_t bytes, const char *what, struct err *err);

#endif
