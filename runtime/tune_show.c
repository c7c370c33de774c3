#include "tune_show.h"

#include <stdio.h>
#include <string.h>

#include "session.h"

void tune_show_progress(void *user, const struct tune_state *now)
{
    char best[PAIRS_TEXT_MAX] = "";
    struct pairs tile;
    (void)user;
    if (now->best >= 0) {
        tune_space_config(now->space, now->best, &tile);
        pairs_text(&tile, best);
    }
    progress_line("%s %d/%d, %d failed; best %.4f ms: %s", now->space->problem.kernel, now->trials + now->known,
                  now->space->nvalid, now->failed, now->best_ms, best);
}

void tune_show_result(void *user, const struct tune_state *r)
{
    struct tune_show *show = user;
    char text[PROBLEM_TEXT_MAX], config[PAIRS_TEXT_MAX] = "none is correct";
    struct pairs tile;
    tune_problem_text(&r->space->problem, text);
    if (r->best >= 0) {
        tune_space_config(r->space, r->best, &tile);
        pairs_text(&tile, config);
    }
    progress_line(NULL);
    if (!show->header)
        printf("| problem | best tile | ms | default ms | gain | trials | failed | of "
               "|\n|---|---|---:|---:|---:|---:|---:|---:|\n");
    show->header = true;
    for (char *bar = text; (bar = strchr(bar, '|'));)
        *bar = ';';
    printf("| %s | %s | %.4f | ", text, config, r->best_ms);
    if (r->default_ms > 0)
        printf("%.4f | %.2f |", r->default_ms, r->default_ms / r->best_ms);
    else
        printf("- | - |");
    printf(" %d | %d | %d |\n", r->trials + r->known, r->failed, r->space->nvalid);
    fflush(stdout);
}
