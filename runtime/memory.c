#include "memory.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* The number in the first line of a file that begins with `key`, or SIZE_MAX. */
static size_t number_in(const char *path, const char *key, size_t unit)
{
    FILE *f = fopen(path, "r");
    char line[256];
    size_t found = SIZE_MAX;
    while (f && found == SIZE_MAX && fgets(line, sizeof line, f)) {
        uint64_t n;
        if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%" SCNu64, &n) == 1 && n < SIZE_MAX / unit)
            found = (size_t)n * unit;
    }
    if (f)
        fclose(f);
    return found;
}

size_t memory_available(void)
{
    size_t least = number_in("/proc/meminfo", "MemAvailable:", 1024);
    size_t group2 = number_in("/sys/fs/cgroup/memory.max", "", 1);
    size_t group1 = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "", 1);
    least = group2 < least ? group2 : least;
    return group1 < least ? group1 : least;
}

size_t memory_peak(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (size_t)u.ru_maxrss * 1024 : 0;
}

int memory_check(size_t bytes, const char *what, struct err *err)
{
    size_t there = memory_available();
    if (bytes <= there)
        return 0;
    return err_set(err, "%s needs %.1f GB of memory, and %.1f GB are available", what, (double)bytes / 1e9,
                   (double)there / 1e9);
}
