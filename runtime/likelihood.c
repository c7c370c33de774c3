#include "likelihood.h"

#include <math.h>

/* The sum is in double, so 10^5 small terms lose nothing. */
double likelihood_nats(const float *logits, int vocab, int32_t token)
{
    float max = logits[0];
    for (int i = 1; i < vocab; i++)
        max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (int i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - max);
    return log(sum) + ((double)max - (double)logits[token]);
}
