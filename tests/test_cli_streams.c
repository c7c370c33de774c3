/* `weir run` and `weir chat` as a user drives them over a longer time: streams that are saved and gone on with, conversations, signals. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cJSON.h>

#include "program.h"
#include "scratch.h"

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
    same_files(in_scratch("whole").text, in_scratch("talk").text, "a conversation in two parts");
    assert_int_equal(weir("chat -m tiny.gguf --load talk --template llama3 <second"), 1);
    failed_with("was begun with chatml");
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
    snprintf(line, sizeof line, "cd %s && exec \"$W\" %s 2>err", in_scratch("").text, args);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_streams), cmocka_unit_test(saved_conversations),           cmocka_unit_test(chats),
        cmocka_unit_test(interrupts),    cmocka_unit_test(ended_conversations_are_saved),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, program_setup_model, scratch_remove);
}
