#ifndef TESTS_CASES_COPY_H
#define TESTS_CASES_COPY_H

/* stream_copy, on any device (device_kit.h). */
void copy_every_length(void **state);

#define COPY_CASES(test) test(copy_every_length)

#endif
