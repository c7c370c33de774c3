#ifndef WEIR_GIVEN_PARAMS_H
#define WEIR_GIVEN_PARAMS_H

/* Parameters of kernels as a command line gives them, for one kernel or for several at once: --d 128 --type bf16 --set bn=64,st=3. */

#include "../gen/gen.h"
#include "options.h"

enum { GIVEN_PARAMS_MAX = 64 };

struct given_params {
    struct gen_param at[GIVEN_PARAMS_MAX]; /* [n], in the order given; the later wins */
    int kind[GIVEN_PARAMS_MAX];            /* [n] GEN_SHAPE or GEN_TILE, once given_params_check was called */
    int n;
    char *text[GIVEN_PARAMS_MAX]; /* [ntexts] owned: copies that at[] points into */
    int ntexts;
};

/* Appends NAME=VALUE[,NAME=VALUE...], which `option` was given. -1 naming option and pair. Free with given_params_free, also after
 * an error. */
int given_params_add(struct given_params *p, const char *option, const char *text, struct err *err);
void given_params_free(struct given_params *p);

/* Takes "--NAME VALUE" and "--NAME=VALUE" out of argv[0..argc-1] where NAME is no option of the tables; --type stands for t. rest:
 * room for argc arguments, gets those that are left. Returns their number, or -1 naming the option. */
int given_params_take(struct given_params *p, const struct option_group *tables, int argc, char **argv, char **rest,
                      struct err *err);

/* The value that wins under that name, or NULL. */
const char *given_params_value(const struct given_params *p, const char *name);

/* Settles what each parameter is to the n kernels that will be asked for: a shape parameter if it is that to any of them, else a
 * tile parameter. -1 naming one that no kernel has. */
int given_params_check(struct given_params *p, struct gen *g, const char *const *kernel, int n, struct err *err);

/* Appends to out[n] the parameters that are for this kernel: those that it has as the kind that given_params_check settled. So one
 * kernel's shape parameter is never another one's tile parameter of the same name. Returns how many out holds, or -1. */
int given_params_for(const struct given_params *p, struct gen *g, const char *kernel, struct gen_param *out, int n,
                     struct err *err);

#endif
