#ifndef TESTS_CASES_SAMPLE_H
#define TESTS_CASES_SAMPLE_H

/* `sample` beside runtime/sampler.c, token by token, on any device (device_kit.h). */
void sample_greedy(void **state);

#define SAMPLE_CASES(test) test(sample_greedy)

#endif
