#ifndef WEIR_TESTS_MODEL_PATH_H
#define WEIR_TESTS_MODEL_PATH_H

#include <stddef.h>

/* The default model's path, from the environment variable MODEL (set by `make test`) or the cache folder. -1: it is not there,
 * and the test that needs it is skipped. */
int default_model_path(char *path, size_t room);

#endif
