#include "program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "scratch.h"

char out[1 << 20], errors[1 << 16];

int program_setup(void **state)
{
    char path[4096];
    const char *program = getenv("WEIR");
    if (scratch_make(state) != 0 || !realpath(program ? program : "build/weir", path))
        return -1;
    setenv("W", path, 1);
    unsetenv("WEIR_MODEL");
    return setenv("WEIR_CACHE", in_scratch("").text, 1);
}

int program_setup_model(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    if (program_setup(state) != 0)
        return -1;
    t.tokenizer = TINY_BPE;
    tiny_model_file(&t, in_scratch("tiny.gguf").text);
    return 0;
}

void slurp(const char *name, char *text, size_t room)
{
    struct bytes b = file_read(in_scratch(name).text);
    assert_true(b.size < room);
    memcpy(text, b.data, b.size + 1);
    free(b.data);
}

void spill(const char *name, const char *text)
{
    file_write(in_scratch(name).text, text, strlen(text));
}

int weir(const char *args, ...)
{
    char command[4096], line[3072];
    va_list ap;
    va_start(ap, args);
    vsnprintf(line, sizeof line, args, ap);
    va_end(ap);
    spill("out", ""); /* where the arguments send it elsewhere */
    snprintf(command, sizeof command, "cd %s && \"$W\" %s 2>err%s%s", in_scratch("").text, line,
             strstr(line, " >") ? "" : " >out", strstr(line, " <") ? "" : " </dev/null");
    int rc = system(command);
    slurp("out", out, sizeof out);
    slurp("err", errors, sizeof errors);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

void failed_with(const char *what)
{
    const char *nl = strchr(errors, '\n');
    if (!strstr(errors, what) || !nl || nl[1] || strncmp(errors, "weir", 4) != 0)
        fail_msg("expected one line with '%s', got: %s", what, errors);
    assert_string_equal(out, "");
}
