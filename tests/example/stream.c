/* A program that uses libweir: continues a text, in constant memory, and keeps the stream in a file. Built against weir.h alone:
 *   cc stream.c -lweir -o stream && ./stream MODEL.gguf "The river rose, and" 40 saved */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir.h"

static void must(int rc, const struct weir_error *error)
{
    if (rc == 0)
        return;
    fprintf(stderr, "stream: %s\n", error->message);
    exit(1);
}

/* Up to n tokens after what the stream holds. */
static void write_on(const struct weir_model *model, struct weir_stream *stream, int n)
{
    struct weir_error error;
    for (int i = 0; i < n; i++) {
        int32_t token;
        size_t bytes;
        must(weir_stream_sample(stream, &token, &error), &error);
        if (weir_model_ends(model, token))
            break;
        const char *text = weir_token_text(model, token, &bytes);
        fwrite(text, 1, bytes, stdout);
        must(weir_stream_feed(stream, &token, 1, &error), &error);
    }
}

int main(int argc, char **argv)
{
    struct weir_error error;
    struct weir_model *model;
    struct weir_stream *stream;
    int32_t *tokens;
    size_t count;
    if (argc != 5) {
        fprintf(stderr, "usage: stream MODEL TEXT TOKENS FILE\n");
        return 2;
    }
    int n = atoi(argv[3]);
    must(weir_model_open(&model, argv[1], &error), &error);
    struct weir_model_facts facts = weir_model_facts(model);

    struct weir_stream_options options = weir_stream_defaults(model);
    options.cascade.sinks = 4;
    weir_cascade_resize(&options.cascade, 256, 4);
    options.sampling.temperature = 0.7;
    options.sampling.seed = 1;
    must(weir_stream_open(&stream, model, &options, &error), &error);
    if (weir_stream_note(stream)[0])
        fprintf(stderr, "stream: %s\n", weir_stream_note(stream));

    if (facts.adds_bos)
        must(weir_stream_feed(stream, &facts.bos, 1, &error), &error);
    must(weir_tokenize(model, argv[2], strlen(argv[2]), 0, &tokens, &count, &error), &error);
    must(weir_stream_feed(stream, tokens, count, &error), &error);
    weir_free(tokens);

    /* Half of it now, half of it as another program would that is started tomorrow. */
    write_on(model, stream, n / 2);
    must(weir_stream_save(stream, argv[4], &error), &error);
    weir_stream_close(stream);
    must(weir_stream_load(&stream, model, argv[4], NULL, &error), &error);
    write_on(model, stream, n - n / 2);
    printf("\n");
    fprintf(stderr, "libweir %s: %lld tokens seen, %.1f MB of cache, which reaches back %lld tokens\n", weir_version(),
            (long long)weir_stream_seen(stream), (double)weir_stream_cache_bytes(stream) / 1e6,
            (long long)weir_stream_reach(stream));
    weir_stream_close(stream);
    weir_model_close(model);
    return 0;
}
