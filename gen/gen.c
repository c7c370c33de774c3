#include "gen.h"

#include <assert.h>
#include <cJSON.h>
#include <dirent.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embedded.h"

static const char prelude_begin[] = "/* ---- prelude ---- */", prelude_end[] = "/* ---- end of prelude ---- */";

enum {
    HEAP_MAX = 512 << 20,         /* bytes a Lua state may hold: a template that emits for ever ends in an error */
    INSTRUCTIONS_MAX = 500000000, /* Lua instructions a call may take: so does one that loops for ever */
    FILE_MAX = 16 << 20,          /* bytes of a Lua file or template */
};

struct gen {
    lua_State *L;
    size_t heap;         /* bytes in use */
    char home[PATH_MAX]; /* "": only what is built in */
};

static void *lua_heap(void *ud, void *p, size_t old, size_t size)
{
    struct gen *g = ud;
    if (!p)
        old = 0; /* it is a type tag then */
    if (size == 0) {
        free(p);
        g->heap -= old;
        return NULL;
    }
    if (size > old && g->heap + (size - old) > HEAP_MAX)
        return NULL;
    void *q = realloc(p, size);
    if (q)
        g->heap += size - old;
    return q;
}

static void too_long(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    luaL_error(L, "gave up after %d Lua instructions; is there a loop without an end?", INSTRUCTIONS_MAX);
}

static struct gen *gen_of(lua_State *L)
{
    return *(struct gen **)lua_getextraspace(L);
}

/* Pushes the text of a file, or nil where it cannot be read. */
static void push_file(lua_State *L, const char *path)
{
    luaL_Buffer b;
    FILE *f = fopen(path, "rb");
    if (!f) {
        lua_pushnil(L);
        return;
    }
    size_t n, total = 0;
    luaL_buffinit(L, &b);
    do {
        char part[4096];
        n = fread(part, 1, sizeof part, f);
        total += n;
        luaL_addlstring(&b, part, n);
    } while (n > 0 && total <= FILE_MAX);
    bool bad = ferror(f) || total > FILE_MAX;
    fclose(f);
    luaL_pushresult(&b);
    if (bad) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* read_file("templates/x.cu.t") -> text, or nil: from home, else what was built in. */
static int lua_read_file(lua_State *L)
{
    struct gen *g = gen_of(L);
    const char *path = luaL_checkstring(L, 1);
    if (path[0] == '/' || strstr(path, ".."))
        return luaL_error(L, "%s: a file of gen/ or templates/ is needed", path);
    if (g->home[0]) {
        push_file(L, lua_pushfstring(L, "%s/%s", g->home, path));
        if (!lua_isnil(L, -1))
            return 1;
    }
    for (const struct embedded_file *f = embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) {
            lua_pushlstring(L, f->text, f->len);
            return 1;
        }
    lua_pushnil(L);
    return 1;
}

/* list_files("gen/kernels/") -> array of the paths that begin so, in home and built in; a path may come twice. */
static int lua_list_files(lua_State *L)
{
    struct gen *g = gen_of(L);
    size_t len;
    const char *prefix = luaL_checklstring(L, 1, &len);
    lua_Integer n = 0;
    lua_newtable(L);
    for (const struct embedded_file *f = embedded_files; f->path; f++)
        if (!strncmp(f->path, prefix, len)) {
            lua_pushstring(L, f->path);
            lua_seti(L, -2, ++n);
        }
    DIR *dir = g->home[0] ? opendir(lua_pushfstring(L, "%s/%s", g->home, prefix)) : NULL;
    if (g->home[0])
        lua_pop(L, 1);
    if (dir) {
        for (struct dirent *e; (e = readdir(dir));) {
            lua_pushfstring(L, "%s%s", prefix, e->d_name);
            lua_seti(L, -2, ++n);
        }
        closedir(dir);
    }
    return 1;
}

static void push_json(lua_State *L, const cJSON *j)
{
    lua_newtable(L);
    for (const cJSON *item = j->child; item; item = item->next) {
        if (cJSON_IsNumber(item))
            lua_pushnumber(L, item->valuedouble);
        else if (cJSON_IsString(item))
            lua_pushstring(L, item->valuestring);
        else
            lua_pushboolean(L, cJSON_IsTrue(item)); /* no field wants one: the reader says which */
        lua_setfield(L, -2, item->string);
    }
}

/* read_table("my-gpu.json") -> the table that a user's .json or .lua file holds. The Lua file is `return { ... }` and sees
 * no names at all. */
static int lua_read_table(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    size_t n = strlen(path);
    push_file(L, path);
    if (lua_isnil(L, -1))
        return luaL_error(L, "%s: cannot be read", path);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (n > 5 && !strcmp(path + n - 5, ".json")) {
        cJSON *j = cJSON_ParseWithLength(text, len);
        bool object = cJSON_IsObject(j);
        if (object)
            push_json(L, j); /* a Lua error here (out of memory) leaks j; the state is at its end then */
        cJSON_Delete(j);
        return object ? 1 : luaL_error(L, "%s: is not a JSON object", path);
    }
    if (luaL_loadbufferx(L, text, len, lua_pushfstring(L, "=%s", path), "t") != LUA_OK)
        return lua_error(L);
    lua_newtable(L);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 1);
    return 1;
}

/* use("gen/spec.lua") -> what that file returns, run once. */
static int lua_use(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "weir.used");
    if (lua_getfield(L, -1, path) != LUA_TNIL)
        return 1;
    lua_pop(L, 1);
    lua_pushcfunction(L, lua_read_file);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (!text)
        return luaL_error(L, "%s: no such file, neither in the home folder nor built in", path);
    if (luaL_loadbufferx(L, text, len, lua_pushfstring(L, "=%s", path), "t") != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, path);
    return 1;
}

/* Runs a C function under protection with one argument; a Lua error becomes *err. */
static int protect(struct gen *g, lua_CFunction fn, void *arg, struct err *err)
{
    lua_State *L = g->L;
    lua_sethook(L, too_long, LUA_MASKCOUNT, INSTRUCTIONS_MAX);
    lua_settop(L, 0);
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, arg);
    int rc = LUA_OK;
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        const char *message = lua_tostring(L, -1);
        rc = err_set(err, "%s", message ? message : "an error of the generator without a message");
    }
    lua_settop(L, 0);
    return rc;
}

static int open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_MATHLIBNAME, luaopen_math},
    };
    static const luaL_Reg ours[] = {
        {"read_file", lua_read_file},
        {"list_files", lua_list_files},
        {"read_table", lua_read_table},
        {"use", lua_use},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        lua_register(L, ours[i].name, ours[i].func);
    lua_pushcfunction(L, lua_use);
    lua_pushstring(L, "gen/spec.lua");
    lua_call(L, 1, 0);
    return 0;
}

static bool is_folder(const char *home, const char *name)
{
    char path[PATH_MAX + 16];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", home, name);
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The binary's folder or its parent, if gen/ and templates/ are there; else "". */
static void home_of_binary(char home[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", home, PATH_MAX - 1);
    home[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(home, '/');
        if (!slash)
            break;
        *slash = 0;
        if (is_folder(home, "gen/kernels") && is_folder(home, "templates"))
            return;
    }
    home[0] = 0;
}

int gen_open(struct gen **out, const char *home, struct err *err)
{
    struct gen *g = err_calloc(1, sizeof *g, "the generator", err);
    if (!g)
        return -1;
    if (!home || !home[0])
        home = getenv("WEIR_HOME");
    if (home && home[0]) {
        if (strlen(home) >= sizeof g->home || (!is_folder(home, "gen") && !is_folder(home, "templates"))) {
            err_set(err, "%.400s: holds neither gen/ nor templates/; give the folder that holds them", home);
            goto failed;
        }
        strcpy(g->home, home);
    } else {
        home_of_binary(g->home);
    }
    g->L = lua_newstate(lua_heap, g);
    if (!g->L) {
        err_set(err, "out of memory for a Lua state");
        goto failed;
    }
    *(struct gen **)lua_getextraspace(g->L) = g;
    if (protect(g, open_libraries, NULL, err) != 0)
        goto failed;
    *out = g;
    return 0;
failed:
    gen_close(g);
    return -1;
}

void gen_close(struct gen *g)
{
    if (!g)
        return;
    if (g->L)
        lua_close(g->L);
    free(g);
}

/* What gen_render hands to its protected half. */
struct render_call {
    const char *kernel, *gpu;
    const struct gen_param *params;
    int nparams;
    struct gen_kernel *out;
    const struct gen_kernel *k; /* for the host's prelude */
    char *text;
};

static void push_spec_function(lua_State *L, const char *name)
{
    lua_pushcfunction(L, lua_use);
    lua_pushstring(L, "gen/spec.lua");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* A string field of the table on top. */
static void get_text(lua_State *L, const char *field, char *out, size_t size)
{
    lua_getfield(L, -1, field);
    const char *s = luaL_checkstring(L, -1);
    if (strlen(s) >= size)
        luaL_error(L, "%s is too long: %s", field, s);
    strcpy(out, s);
    lua_pop(L, 1);
}

static long get_number(lua_State *L, const char *field)
{
    lua_getfield(L, -1, field);
    long v = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    return v;
}

static void get_params(lua_State *L, struct gen_kernel *k)
{
    lua_getfield(L, -1, "params");
    k->nparams = (int)luaL_len(L, -1);
    if (k->nparams > GEN_PARAMS_MAX)
        luaL_error(L, "%s: more than %d parameters", k->name, GEN_PARAMS_MAX);
    for (int i = 0; i < k->nparams; i++) {
        lua_geti(L, -1, i + 1);
        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);
        snprintf(k->param[i].name, sizeof k->param[i].name, "%s", luaL_checkstring(L, -2));
        k->param[i].value = luaL_checkinteger(L, -1);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

static void get_places(lua_State *L, struct gen_kernel *k)
{
    lua_getfield(L, -1, "files");
    k->nfiles = (int)luaL_len(L, -1);
    if (k->nfiles > (int)(sizeof k->file / sizeof *k->file))
        luaL_error(L, "%s: more than %d files make one kernel", k->name, (int)(sizeof k->file / sizeof *k->file));
    for (int i = 0; i < k->nfiles; i++) {
        lua_geti(L, -1, i + 1);
        snprintf(k->file[i], sizeof k->file[i], "%s", luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_getfield(L, -1, "file_at");
    lua_getfield(L, -2, "line_at");
    k->nlines = (int)luaL_len(L, -1);
    k->place = malloc((size_t)k->nlines * sizeof *k->place + 1);
    if (!k->place)
        luaL_error(L, "out of memory for %d lines", k->nlines);
    for (int i = 0; i < k->nlines; i++) {
        lua_geti(L, -2, i + 1);
        lua_geti(L, -2, i + 1);
        k->place[i].file = (int)lua_tointeger(L, -2) - 1;
        k->place[i].line = (int)lua_tointeger(L, -1);
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
}

static int render_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    struct gen_kernel *k = c->out;
    push_spec_function(L, "render");
    lua_pushstring(L, c->kernel);
    lua_pushstring(L, c->gpu);
    lua_newtable(L);
    for (int i = 0; i < c->nparams; i++) {
        lua_pushstring(L, c->params[i].value);
        lua_setfield(L, -2, c->params[i].name);
    }
    lua_call(L, 3, 1);
    get_text(L, "name", k->name, sizeof k->name);
    get_text(L, "kernel", k->kernel, sizeof k->kernel);
    get_text(L, "arch", k->arch, sizeof k->arch);
    k->sm = (int)get_number(L, "sm");
    k->threads = (unsigned)get_number(L, "threads");
    k->smem = (unsigned)get_number(L, "smem");
    k->nspec = (int)get_number(L, "nspec");
    get_params(L, k);
    get_places(L, k);
    lua_getfield(L, -1, "text");
    const char *text = luaL_checklstring(L, -1, &k->source_len);
    k->source = malloc(k->source_len + 1);
    if (!k->source)
        return luaL_error(L, "out of memory for %d bytes of text", (int)k->source_len);
    memcpy(k->source, text, k->source_len + 1);
    return 0;
}

int gen_render(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
               struct gen_kernel *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (strlen(gpu) >= sizeof out->gpu)
        return err_set(err, "the name of the GPU is too long: %.200s", gpu);
    struct render_call c = {.kernel = kernel, .gpu = gpu, .params = params, .nparams = nparams, .out = out};
    strcpy(out->gpu, gpu);
    if (protect(g, render_protected, &c, err) != 0) {
        gen_kernel_free(out);
        return -1;
    }
    return 0;
}

void gen_kernel_free(struct gen_kernel *k)
{
    free(k->source);
    free(k->place);
    memset(k, 0, sizeof *k);
}

long gen_value(const struct gen_kernel *k, const char *name)
{
    for (int i = 0; i < k->nparams; i++)
        if (!strcmp(k->param[i].name, name))
            return k->param[i].value;
    assert(!"gen_value: the kernel has no such parameter");
    return 0;
}

static int host_prelude_protected(lua_State *L)
{
    struct render_call *c = lua_touserdata(L, 1);
    push_spec_function(L, "host_prelude");
    lua_pushstring(L, c->k->kernel);
    lua_pushstring(L, c->k->gpu);
    lua_newtable(L);
    for (int i = 0; i < c->k->nspec; i++) {
        lua_pushinteger(L, c->k->param[i].value);
        lua_setfield(L, -2, c->k->param[i].name);
    }
    lua_call(L, 3, 1);
    c->text = strdup(luaL_checkstring(L, -1));
    return c->text ? 0 : luaL_error(L, "out of memory for the host's prelude");
}

int gen_host_text(struct gen *g, const struct gen_kernel *k, char **text, struct err *err)
{
    const char *begin = strstr(k->source, prelude_begin);
    const char *end = begin ? strstr(begin, prelude_end) : NULL;
    if (!end)
        return err_set(err, "%s: its text has no prelude block between the marker lines", k->name);
    struct render_call c = {.k = k};
    if (protect(g, host_prelude_protected, &c, err) != 0)
        return -1;
    const char *rest = end + strlen(prelude_end);
    size_t head = (size_t)(begin - k->source), middle = strlen(c.text), tail = strlen(rest);
    *text = err_alloc(head + middle + tail + 1, 1, "the host's text of a kernel", err);
    if (*text) {
        memcpy(*text, k->source, head);
        memcpy(*text + head, c.text, middle);
        memcpy(*text + head + middle, rest, tail + 1);
    }
    free(c.text);
    return *text ? 0 : -1;
}
