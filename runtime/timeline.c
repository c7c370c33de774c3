#include "timeline.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

enum { NOTES = 64 };

static struct {
    struct timespec begin;
    atomic_bool open;
    atomic_int count; /* also of those that found no room */
    struct {
        const char *_Atomic what; /* written last: NULL while it is not there */
        double ms;
    } note[NOTES];
} line;

void timeline_begin(void)
{
    clock_gettime(CLOCK_MONOTONIC, &line.begin);
    atomic_store(&line.open, true);
}

void timeline(const char *what)
{
    struct timespec now;
    if (!atomic_load(&line.open))
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int i = atomic_fetch_add(&line.count, 1);
    if (i >= NOTES) {
        atomic_store(&line.open, false);
        return;
    }
    line.note[i].ms =
        (double)(now.tv_sec - line.begin.tv_sec) * 1e3 + (double)(now.tv_nsec - line.begin.tv_nsec) * 1e-6;
    atomic_store(&line.note[i].what, what);
}

void timeline_show(void (*say)(const char *line))
{
    atomic_store(&line.open, false);
    for (int i = 0; i < NOTES; i++) {
        char text[128];
        const char *what = atomic_load(&line.note[i].what);
        if (!what)
            continue;
        snprintf(text, sizeof text, "%7.1f ms  %.100s", line.note[i].ms, what);
        say(text);
    }
}
