#ifndef TESTS_CASES_SAMPLE_H
#define TESTS_CASES_SAMPLE_H

/* `sample` beside runtime/sampler.c, token by token, on any device (device_kit.h). */
void sample_greedy(void **state);
void sample_options(void **state);
void sample_large(void **state);
void sample_wide(void **state);

#define SAMPLE_CASES(test) test(sample_greedy), test(sample_options), test(sample_large), test(sample_wide)

#endif
