#ifndef WEIR_VALIDATE_H
#define WEIR_VALIDATE_H

/* What a prediction is worth, told from measurements of the same configs. */

#include "runtime/err.h"

struct validation {
    int n;           /* configs that are both measured and predicted */
    int near;        /* of them within twice the best measured time */
    double spearman; /* rank correlation of predicted and measured over the near ones: hopeless ones would inflate it */
    double regret;   /* measured time of the one that is predicted best, over the best measured time, less 1 */
    double regret5;  /* the same for the best of the five that are predicted best */
    int best_rank;   /* place of the measured best in the prediction, from 1 */
    double bias;     /* median of predicted over measured */
    int best, picked; /* indices of the measured and of the predicted best */
};

/* measured, predicted: [n] ms, 0 or less for a config that has none. -1 where fewer than three have both. */
int validate(const double *measured, const double *predicted, int n, struct validation *out, struct err *err);

/* Rank correlation of two rows of n numbers, equal ones sharing their rank; 0 where one row is all the same. *out is NAN where memory is
 * out. */
double rank_correlation(const double *a, const double *b, int n);

#endif
