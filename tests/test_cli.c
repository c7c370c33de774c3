/* The built program, driven as a user drives it: output, exit status, one-line errors. $WEIR names it (default build/weir). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cJSON.h>

#include "gguf_writer.h"
#include "oracle_cascade.h"

static char folder[] = "/tmp/weir-cli-XXXXXX";
static char out[1 << 20], errors[1 << 16]; /* what the last run wrote */

static void slurp(const char *name, char *buf, size_t room)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(buf, 1, room - 1, f);
    assert_true(n < room - 1);
    buf[n] = 0;
    fclose(f);
}

static void spill(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(text, 1, strlen(text), f) == strlen(text));
    assert_int_equal(fclose(f), 0);
}

/* Runs `weir ARGS` by the shell in the test's folder, where $W is the program; returns its exit status. */
static int weir(const char *args, ...) __attribute__((format(printf, 1, 2)));
static int weir(const char *args, ...)
{
    char command[4096], line[3072];
    va_list ap;
    va_start(ap, args);
    vsnprintf(line, sizeof line, args, ap);
    va_end(ap);
    snprintf(command, sizeof command, "cd %s && \"$W\" %s >out 2>err", folder, line);
    if (!strstr(line, "<"))
        strcat(command, " </dev/null");
    int rc = system(command);
    slurp("out", out, sizeof out);
    slurp("err", errors, sizeof errors);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

/* The last run failed with one line that names its command and says `what`. */
static void failed_with(const char *what)
{
    const char *nl = strchr(errors, '\n');
    if (!strstr(errors, what) || !nl || nl[1] || strncmp(errors, "weir", 4) != 0)
        fail_msg("expected one line with '%s', got: %s", what, errors);
    assert_string_equal(out, "");
}

static int setup(void **state)
{
    (void)state;
    char path[4096];
    const char *program = getenv("WEIR");
    if (!mkdtemp(folder) || !realpath(program ? program : "build/weir", path))
        return -1;
    setenv("W", path, 1);
    unsetenv("WEIR_MODEL");
    setenv("WEIR_CACHE", folder, 1);
    struct tiny_model t = tiny_model_defaults();
    t.tokenizer = TINY_BPE;
    snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    tiny_model_file(&t, path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void help(void **state)
{
    (void)state;
    static const char *const commands[] = {"run", "chat", "eval", "eval ppl", "eval passkey", "trace"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(weir("%s --help", commands[i]), 0);
        assert_non_null(strstr(out, "usage: weir"));
        assert_string_equal(errors, "");
    }
    assert_int_equal(weir("help"), 0);
    assert_non_null(strstr(out, "trace"));
}

static void usage_errors(void **state)
{
    (void)state;
    static const struct {
        const char *args, *says;
    } bad[] = {
        {"run -m tiny.gguf -p x --window 2047", "--window 2047"},
        {"run -m tiny.gguf -p x --stride 0", "--stride 0"},
        {"run -m tiny.gguf -p x --window 1000000000", "--window 1000000000"},
        {"run -m tiny.gguf -p x --sinks -1", "--sinks -1"},
        {"run -m tiny.gguf -p x --windows 64", "--windows"},
        {"run -m tiny.gguf -p x --select best", "--select best"},
        {"run -m tiny.gguf -p x --temp -1", "--temp -1"},
        {"run -m tiny.gguf -p x -n -1", "-n -1"},
        {"run -m tiny.gguf", "-p TEXT"},
        {"run -m tiny.gguf -p x -f y", "-p TEXT"},
        {"run -m tiny.gguf -p x --cpu --gpu 0", "--gpu"},
        {"run -m tiny.gguf -p x --set bm", "--set bm"},
        {"run", "-p TEXT"},
        {"chat -m tiny.gguf --span 7", "--span 7"},
        {"eval", "ppl or passkey"},
        {"eval quiz", "quiz"},
        {"eval ppl -m tiny.gguf", "-f FILE"},
        {"eval ppl -m tiny.gguf -p x --max-tokens 1", "--max-tokens 1"},
        {"eval ppl -m tiny.gguf -p x --compare '--subcaches 99'", "--subcaches 99"},
        {"eval ppl -m tiny.gguf -p x --dump d --compare '' --compare '--span 1'", "--dump"},
        {"eval passkey -m tiny.gguf --lengths 4096,x", "--lengths 4096,x"},
        {"eval passkey -m tiny.gguf --depths 0", "--depths 0"},
        {"trace", "--scores"},
        {"trace --scores s --chunk 0", "--chunk 0"},
        {"nonsense", "nonsense"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(weir("%s", bad[i].args), 2);
        failed_with(bad[i].says);
    }
}

static void failed_jobs(void **state)
{
    (void)state;
    spill("bad.gguf", "GGUF is not this");
    spill("words", "1\n0.5\nmany\n");
    spill("empty", "");
    static const struct {
        const char *args, *says;
    } bad[] = {
        {"run -m none.gguf -p x", "none.gguf"},
        {"run -m bad.gguf -p x", "bad.gguf"},
        {"run -m . -p x", "."},
        {"run -p x", "make model"},
        {"run -m tiny.gguf -f none.txt", "none.txt"},
        {"run -m tiny.gguf -f empty", "empty"},
        {"eval ppl -m tiny.gguf -f none", "none"},
        {"eval ppl -m tiny.gguf -f empty", "empty"},
        {"eval ppl -m tiny.gguf -p xyz --dump no/such/folder", "no/such/folder"},
        {"eval passkey -m tiny.gguf --filler none", "none"},
        {"trace --scores none", "none"},
        {"trace --scores words", "words:3"},
        {"trace --scores .", "."},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(weir("%s", bad[i].args), 1);
        failed_with(bad[i].says);
    }
}

/* ---- streams that last ---- */

/* The ids that the last `run --json` generated. */
static cJSON *generated(void)
{
    cJSON *top = cJSON_Parse(out);
    assert_non_null(top);
    cJSON *ids = cJSON_DetachItemFromObject(top, "tokens");
    cJSON_Delete(top);
    return ids;
}

static void saved_streams(void **state)
{
    (void)state;
    static const char cascade[] = "--window 48 --subcaches 3 --sinks 4 --span 4 --stride 16 --repeat-penalty 1.2";
    assert_int_equal(weir("run -m tiny.gguf -p 'some words' -n 90 --seed 3 --ignore-end --json %s", cascade), 0);
    cJSON *whole = generated();
    assert_int_equal(
        weir("run -m tiny.gguf -p 'some words' -n 40 --seed 3 --ignore-end --json --save stream %s", cascade), 0);
    cJSON *part = generated();
    assert_int_equal(weir("run -m tiny.gguf -n 50 --ignore-end --json --load stream --save stream"), 0);
    cJSON *rest = generated();
    assert_int_equal(cJSON_GetArraySize(rest), 50);
    for (int i = 0; i < 90; i++)
        assert_int_equal(cJSON_GetArrayItem(whole, i)->valueint,
                         cJSON_GetArrayItem(i < 40 ? part : rest, i < 40 ? i : i - 40)->valueint);
    cJSON_Delete(whole);
    cJSON_Delete(part);
    cJSON_Delete(rest);

    /* The same options again are no contradiction, nor is another way to sample; another cascade is. */
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load stream %s --temp 0.3 -p 'and more'", cascade), 0);
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load stream --window 96"), 1);
    failed_with("N=3 W=96");
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load stream --preset paper"), 1);
    failed_with("--preset");
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load stream --span 5"), 2);
    failed_with("--span 5");
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load stream --save no/such/folder"), 1);
    failed_with("no/such/folder");
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load none"), 1);
    failed_with("none");
    assert_int_equal(weir("run -m tiny.gguf -n 2 --load tiny.gguf"), 1);
    failed_with("is no stream that weir saved");
    assert_int_equal(weir("chat -m tiny.gguf --load stream"), 1);
    failed_with("holds a text and no conversation");
}

/* A conversation that is broken off and gone on with is the conversation in one go. */
static void saved_conversations(void **state)
{
    (void)state;
    static const char options[] = "-m tiny.gguf --template chatml --greedy -n 20 --window 48 --sinks 4 --span 4";
    spill("first", "one two\n");
    spill("second", "three\n");
    spill("both", "one two\nthree\n");
    assert_int_equal(weir("chat %s --save whole <both", options), 0);
    assert_int_equal(weir("chat %s --save talk <first", options), 0);
    assert_int_equal(weir("chat -m tiny.gguf --greedy -n 20 --load talk --save talk <second"), 0);
    char compare[64];
    snprintf(compare, sizeof compare, "cd %s && cmp whole talk", folder);
    assert_int_equal(system(compare), 0);
    assert_int_equal(weir("chat -m tiny.gguf --load talk --template llama3 <second"), 1);
    failed_with("was begun with chatml");
}

/* ---- run and eval, on a tiny model of random weights ---- */

/* Reads a dump of numbers, one a line; returns how many. */
static int read_dump(const char *name, double *v, int room)
{
    static char text[1 << 16];
    slurp(name, text, sizeof text);
    int n = 0;
    for (char *at = text, *end; *at; at = end + 1) {
        assert_true(n < room);
        v[n++] = strtod(at, &end);
        assert_int_equal(*end, '\n');
    }
    return n;
}

static const char prose[] =
    "A weir is a low dam that water falls over, step by step. Below it the river goes on, slower and "
    "wider than before, and what it carried settles on the stones; \xc3\xa4\xe2\x82\xac \xff\xfe.\n";

static void perplexity(void **state)
{
    (void)state;
    char text[4096] = "";
    for (int i = 0; i < 8; i++)
        strcat(text, prose);
    spill("prose", text);
    static double a[2048], b[2048];
    double mean = 0;
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --dump a --json"), 0);
    int n = read_dump("a", a, 2048);
    assert_true(n > 1024); /* more than one chunk, the first of full size */
    for (int i = 0; i < n; i++)
        mean += a[i] / n;
    cJSON *j = cJSON_Parse(out);
    const cJSON *r = cJSON_GetArrayItem(cJSON_GetObjectItem(j, "results"), 0);
    assert_int_equal(cJSON_GetObjectItem(r, "tokens")->valueint, n);
    assert_true(fabs(cJSON_GetObjectItem(r, "nats_per_token")->valuedouble - mean) < 1e-6);
    assert_true(fabs(cJSON_GetObjectItem(r, "perplexity")->valuedouble / exp(mean) - 1) < 1e-5);
    cJSON_Delete(j);

    /* While the window holds the whole text, neither chunks nor sub-caches matter. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -f - --stride 7 -N 2 --dump b <prose"), 0);
    assert_int_equal(read_dump("b", b, 2048), n);
    for (int i = 0; i < n; i++)
        assert_true(fabs(a[i] - b[i]) < 1e-4);

    /* The first K tokens, and the rows of a comparison. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --max-tokens 20 --dump b"), 0);
    assert_int_equal(read_dump("b", b, 2048), 19);
    for (int i = 0; i < 19; i++)
        assert_true(fabs(a[i] - b[i]) < 1e-4);
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose -W 64 -S 4 -T 16 --compare '-N 1' --compare '--span 4' "
                          "--compare '--schedule 1,1,3,9'"),
                     0);
    assert_non_null(strstr(out, "N=1 W=64 B=2 T=16 S=4\n"));
    assert_non_null(strstr(out, "N=4 W=64 B=4 T=16 mean S=4\n"));
    assert_non_null(strstr(out, "schedule=1,1,3,9\n"));

    /* Nothing half-written beside the dump, and none at all after a failure. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -p x --dump c"), 1);
    char command[128];
    snprintf(command, sizeof command, "ls %s | grep -c -e tmp -e '^c$' >%s/out", folder, folder);
    (void)!system(command);
    slurp("out", out, sizeof out);
    assert_string_equal(out, "0\n");
}

static void runs(void **state)
{
    (void)state;
    static char first[1 << 16];
    spill("prose", prose);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 40 --greedy --ignore-end"), 0);
    strcpy(first, out);
    assert_non_null(strstr(errors, "generated: 40 tokens"));
    assert_non_null(strstr(errors, "window 2048"));
    assert_non_null(strstr(errors, "reach 7744 tokens"));
    assert_true(strchr(errors, '\n')[1] == 0);
    assert_int_equal(weir("run --model=tiny.gguf -f - -n 40 --greedy --ignore-end --threads 1 <prose"), 0);
    assert_string_equal(out, first);
    assert_int_equal(weir("run -m tiny.gguf -p \"$(cat prose)\n\" -n 0"), 0);
    assert_string_equal(out, "\n");

    /* A seed gives its text again; a stream far longer than the window goes on. */
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 5 --temp 1"), 0);
    strcpy(first, out);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 5 --temp 1"), 0);
    assert_string_equal(out, first);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 6 --temp 1"), 0);
    assert_string_not_equal(out, first);

    assert_int_equal(weir("run -m tiny.gguf -f prose -n 12 --json --ignore-end"), 0);
    cJSON *j = cJSON_Parse(out);
    assert_non_null(j);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "tokens")), 12);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "stopped_by")), "limit");
    assert_int_equal(cJSON_GetObjectItem(j, "generated_tokens")->valueint, 12);
    assert_true(cJSON_GetObjectItem(j, "prompt_tokens")->valueint > 20);
    cJSON_Delete(j);
}

static void chats(void **state)
{
    (void)state;
    spill("said", "hello\n\nwho are you?\n");
    assert_int_equal(weir("chat -m tiny.gguf --template zephyr -n 20 --ignore-end --greedy <said"), 0);
    assert_non_null(strstr(errors, "generated: 40 tokens")); /* two turns; the empty line is none */
    assert_int_equal(weir("chat -m tiny.gguf --template zephyr </dev/null"), 0);
    assert_string_equal(out, "");
    assert_int_equal(weir("chat -m tiny.gguf --template nobody </dev/null"), 1);
    failed_with("nobody");
}

/* A running program with pipes, for signals. */
struct child {
    pid_t pid;
    int in, out;
};

static struct child start(const char *args)
{
    int in[2], to[2];
    char line[1024];
    assert_int_equal(pipe(in) | pipe(to), 0);
    snprintf(line, sizeof line, "cd %s && exec \"$W\" %s 2>err", folder, args);
    struct child c = {.pid = fork(), .in = in[1], .out = to[0]};
    assert_true(c.pid >= 0);
    if (c.pid == 0) {
        dup2(in[0], 0);
        dup2(to[1], 1);
        close(in[1]);
        close(to[0]);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(to[1]);
    return c;
}

static int finish(struct child *c)
{
    char drain[4096];
    int rc;
    close(c->in);
    while (read(c->out, drain, sizeof drain) > 0)
        continue;
    close(c->out);
    assert_int_equal(waitpid(c->pid, &rc, 0), c->pid);
    assert_true(WIFEXITED(rc));
    slurp("err", errors, sizeof errors);
    return WEXITSTATUS(rc);
}

/* Ctrl-C stops an answer, and the conversation goes on; it stops run cleanly. */
static void interrupts(void **state)
{
    (void)state;
    char some[64];
    struct child c = start("chat -m tiny.gguf --template zephyr -n 1000000000 --ignore-end");
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(write(c.in, "hello\n", 6), 6);
        assert_true(read(c.out, some, sizeof some) > 0);
        kill(c.pid, SIGINT);
        struct pollfd more = {.fd = c.out, .events = POLLIN};
        while (poll(&more, 1, 1000) > 0) /* the answer ends before the next turn is typed */
            assert_true(read(c.out, some, sizeof some) > 0);
    }
    assert_int_equal(finish(&c), 0);
    assert_non_null(strstr(errors, "generated: "));

    c = start("run -m tiny.gguf -p hello -n 1000000000 --ignore-end");
    assert_true(read(c.out, some, sizeof some) > 0);
    kill(c.pid, SIGINT);
    assert_int_equal(finish(&c), 0);
    assert_non_null(strstr(errors, "generated: "));
}

/* A conversation that is asked to end is saved, in the middle of an answer or while nothing is said. */
static void ended_conversations_are_saved(void **state)
{
    (void)state;
    char some[64];
    for (int i = 0; i < 2; i++) {
        struct child c =
            start("chat -m tiny.gguf --template zephyr -n 1000000000 --ignore-end --window 64 --save ended");
        assert_int_equal(write(c.in, "hello\n", 6), 6);
        assert_true(read(c.out, some, sizeof some) > 0);
        if (i == 1) { /* first the answer, then the silence */
            kill(c.pid, SIGINT);
            struct pollfd more = {.fd = c.out, .events = POLLIN};
            while (poll(&more, 1, 500) > 0)
                assert_true(read(c.out, some, sizeof some) > 0);
        }
        kill(c.pid, i ? SIGHUP : SIGTERM);
        assert_int_equal(finish(&c), 0);
        assert_int_equal(weir("chat -m tiny.gguf -n 3 --load ended"), 0);
    }
}

static void model_is_found(void **state)
{
    (void)state;
    spill("prose", prose);
    assert_int_equal(weir("run -p x -n 1"), 1);
    failed_with("SmolLM2-135M-Instruct.Q4_1.gguf");
    setenv("WEIR_MODEL", "tiny.gguf", 1);
    assert_int_equal(weir("run -p x -n 1"), 0);
    assert_int_equal(weir("run -m none -p x -n 1"), 1); /* -m wins */
    unsetenv("WEIR_MODEL");
}

static void pass_keys(void **state)
{
    (void)state;
    spill("filler", "One sentence. Another one! A third? and a tail without an end");
    assert_int_equal(
        weir("eval passkey -m tiny.gguf --lengths 1200,1300 --depths 2 --json --compare '-N 1' --compare ''"), 0);
    cJSON *j = cJSON_Parse(out);
    const cJSON *list = cJSON_GetObjectItem(j, "results");
    assert_int_equal(cJSON_GetArraySize(list), 4);
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 3), "tokens")->valueint, 1300);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "depths")), 2);
    cJSON_Delete(j);
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 1200 --depths 3 --filler filler -T 64 -W 64"), 0);
    assert_non_null(strstr(out, "0/3  ...\n"));
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 128"), 1); /* bytes are tokens here */
    failed_with("--lengths 128");
}

/* ---- trace ---- */

static void same_list(const cJSON *list, const int64_t *want, int n)
{
    assert_int_equal(cJSON_GetArraySize(list), n);
    int i = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, list) assert_true(e->valuedouble == (double)want[i++]);
}

static void trace_equals_oracle(void **state)
{
    (void)state;
    static const char *const schedules[] = {"pow2", "pow3", "pow4", "iplus1"};
    static const int spans[] = {1, 1, 2, 3, 4, 8, 16, 32};
    uint64_t seed = 11;
    for (int round = 0; round < 150; round++) {
        struct cascade_params p = cascade_defaults();
        int kind = random_int(&seed, 0, 3), tokens = random_int(&seed, 0, 600);
        p.span = spans[random_int(&seed, 0, 7)];
        p.subcaches = random_int(&seed, 1, 5);
        p.window = p.subcaches * p.span * random_int(&seed, 1, 6);
        p.sinks = random_int(&seed, 0, 9);
        p.eager = random_int(&seed, 0, 1);
        p.span_score = random_int(&seed, 0, 1) ? SPAN_MEAN : SPAN_MAX;
        int64_t power = 1;
        for (int i = 0; i < p.subcaches; i++, power *= kind + 2)
            p.every[i] = kind == 3 ? i + 1 : power;

        struct oracle_cascade c;
        oracle_cascade_open(&c, &p);
        char text[1 << 14], *at = text;
        text[0] = 0;
        for (int t = 0; t < tokens; t++) {
            static const char *const odd[] = {"nan", "-inf", "inf", "NaN", "1e-3", "-0", "+2.5E1", "0x1p3"};
            int k = random_int(&seed, 0, 40);
            at += k < 8 ? sprintf(at, "%s\n", odd[k]) : sprintf(at, "%d.%d\n", k % 5, k % 2 * 5);
            oracle_cascade_insert(&c, k < 8 ? strtod(odd[k], NULL) : k % 5 + k % 2 * 0.5);
        }
        if (at > text && random_int(&seed, 0, 1))
            at[-1] = 0; /* the last line may lack its end */
        spill("scores", text);

        assert_int_equal(weir("trace --window %d --subcaches %d --sinks %d --span %d --span-score %s --schedule %s "
                              "--eager-fill %s --chunk %d --scores %s",
                              p.window, p.subcaches, p.sinks, p.span, p.span_score == SPAN_MEAN ? "mean" : "max",
                              schedules[kind], p.eager ? "on" : "off", random_int(&seed, 1, 200),
                              random_int(&seed, 0, 1) ? "scores" : "- <scores"),
                         0);
        cJSON *j = cJSON_Parse(out);
        assert_non_null(j);
        assert_true(cJSON_GetObjectItem(j, "seen")->valuedouble == tokens);
        same_list(cJSON_GetObjectItem(j, "sinks"), c.sinks, c.nsinks);
        same_list(cJSON_GetObjectItem(j, "pending"), c.pending, c.npending);
        const cJSON *subs = cJSON_GetObjectItem(j, "subcaches");
        assert_int_equal(cJSON_GetArraySize(subs), p.subcaches);
        for (int i = 0; i < p.subcaches; i++)
            same_list(cJSON_GetArrayItem(subs, i), c.sub[i], c.count[i]);
        cJSON_Delete(j);
        oracle_cascade_close(&c);
    }
}

/* Selections that look at no score. */
static void trace_selections(void **state)
{
    (void)state;
    spill("flat", "0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select newest --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[],\"subcaches\":[[10,11],[7,9]],\"pending\":[]}\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select oldest --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[],\"subcaches\":[[10,11],[6,8]],\"pending\":[]}\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select random --seed 3 --scores flat"), 0);
    assert_int_equal(weir("trace -W 8 -N 2 -S 1 -B 4 --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[0],\"subcaches\":[[5,6,7,8],[1,2,3,4]],\"pending\":[9,10,11]}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help),
        cmocka_unit_test(usage_errors),
        cmocka_unit_test(failed_jobs),
        cmocka_unit_test(saved_streams),
        cmocka_unit_test(saved_conversations),
        cmocka_unit_test(perplexity),
        cmocka_unit_test(runs),
        cmocka_unit_test(chats),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(ended_conversations_are_saved),
        cmocka_unit_test(model_is_found),
        cmocka_unit_test(pass_keys),
        cmocka_unit_test(trace_equals_oracle),
        cmocka_unit_test(trace_selections),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
