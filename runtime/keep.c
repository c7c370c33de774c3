#include "keep.h"

#include <string.h>

#include "aside.h"
#include "cmd.h"

void keep_init(struct keep *k)
{
    memset(k, 0, sizeof *k);
    const struct option rows[] = {
        {"--save", NULL, OPTION_TEXT, &k->save, "FILE", "write the stream there in the end, to go on with it later", 0,
         0, NULL},
        {"--load", NULL, OPTION_TEXT, &k->load, "FILE",
         "go on with the stream that is there; its cascade and sampling are the defaults", 0, 0, NULL},
        {0},
    };
    _Static_assert(sizeof rows <= sizeof k->table, "the table is too small");
    memcpy(k->table, rows, sizeof rows);
}

void keep_close(struct keep *k)
{
    if (k->file.path)
        stream_file_close(&k->file);
}

int keep_parse(struct keep *k, struct options *set, struct cascade_options *c, struct generate_options *g, int argc,
               char **argv, struct err *err)
{
    int status = options_parse(set, argc, argv, err);
    if (status != OPTIONS_GO || !k->load)
        return status;
    if (stream_file_open(&k->file, k->load, err))
        return CMD_FAILED;
    /* The file's values take the place of the defaults; what is given on the command line, then, is put over them. */
    cascade_options_adopt(c, &k->file.head.cascade);
    generate_options_adopt(g, &k->file.head.sampler.p);
    return options_parse(set, argc, argv, err);
}

/* The cache holds what its own cascade kept: another one cannot go on with it. */
static int check_cascade(const struct keep *k, struct cascade_options *c, struct err *err)
{
    char saved[160], asked[160];
    if (c->preset != PRESET_NONE) {
        err_set(err, "--preset: the stream of --load has its cascade, which cannot be changed");
        return CMD_FAILED;
    }
    if (cascade_options_finish(c, 0, err))
        return CMD_USAGE;
    if (cascade_equal(&c->p, &k->file.head.cascade))
        return CMD_OK;
    cascade_describe(&k->file.head.cascade, saved, sizeof saved);
    cascade_describe(&c->p, asked, sizeof asked);
    err_set(err, "%s: its cascade is '%s' and cannot become '%s'; leave the cascade's options out", k->load, saved,
            asked);
    return CMD_FAILED;
}

/* Better before hours of work than after them. */
static int check_place(const struct keep *k, struct err *err)
{
    struct aside a;
    if (!k->save)
        return 0;
    if (aside_open(&a, k->save, err))
        return err_prefix(err, "--save");
    aside_drop(&a);
    return 0;
}

int keep_begin(const struct keep *k, struct session *s, const struct session_options *o, struct cascade_options *c,
               const struct generate_options *g, struct err *err)
{
    if (check_place(k, err))
        return CMD_FAILED;
    if (!k->load)
        return session_begin(s, o, c, &g->sampler, err);
    int status = check_cascade(k, c, err);
    if (status == CMD_OK)
        status = session_open(s, o, err);
    if (status != CMD_OK)
        return status;
    struct backend_options machine = session_machine(o);
    int failed = weir_stream_resume(&s->stream, s->model, &k->file, &g->sampler, &machine, err);
    progress_line(NULL);
    if (failed) {
        session_close(s);
        return CMD_FAILED;
    }
    session_warn(s);
    return CMD_OK;
}

int keep_save(const struct keep *k, struct session *s, struct err *err)
{
    return k->save ? weir_stream_save(s->stream, k->save, weir_error_of(err)) : 0;
}
