/* The Lua state of the generator: what its scripts may call, and how it is opened. */
#include "gen_state.h"

#include <cJSON.h>
#include <dirent.h>
#include <limits.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embedded.h"

enum {
    HEAP_MAX = 128 << 20,         /* bytes a Lua state may hold: a template that emits for ever ends in an error */
    INSTRUCTIONS_MAX = 200000000, /* Lua instructions a call may take: so does one that loops for ever */
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
    luaL_where(L, 0); /* in a hook, level 0 is the function that runs */
    lua_pushfstring(L, "gave up after %d Lua instructions; is there a loop without an end?", INSTRUCTIONS_MAX);
    lua_concat(L, 2);
    lua_error(L);
}

/* Raises an error that says nothing of the place in our own scripts. */
static int user_error(lua_State *L, const char *fmt, const char *path)
{
    lua_pushfstring(L, fmt, path);
    return lua_error(L);
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
        return user_error(L, "%s: a file of gen/ or templates/ is needed", path);
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
        return user_error(L, "%s: cannot be read", path);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (n > 5 && !strcmp(path + n - 5, ".json")) {
        cJSON *j = cJSON_ParseWithLength(text, len);
        bool object = cJSON_IsObject(j);
        if (object)
            push_json(L, j); /* a Lua error here (out of memory) leaks j; the state is at its end then */
        cJSON_Delete(j);
        return object ? 1 : user_error(L, "%s: is not a JSON object", path);
    }
    if (text[0] == LUA_SIGNATURE[0])
        return user_error(L, "%s: is compiled Lua; text is needed", path);
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
        return user_error(L, "%s: no such file, neither in the home folder nor built in", path);
    if (luaL_loadbufferx(L, text, len, lua_pushfstring(L, "=%s", path), "t") != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, path);
    return 1;
}

int gen_protect(struct gen *g, lua_CFunction fn, void *arg, struct err *err)
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

void gen_push_function(lua_State *L, const char *module, const char *name)
{
    lua_pushcfunction(L, lua_use);
    lua_pushstring(L, module);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

void gen_get_text(lua_State *L, const char *field, char *out, size_t size)
{
    lua_getfield(L, -1, field);
    const char *s = luaL_checkstring(L, -1);
    if (strlen(s) >= size)
        luaL_error(L, "%s is too long: %s", field, s);
    strcpy(out, s);
    lua_pop(L, 1);
}

long gen_get_integer(lua_State *L, const char *field)
{
    lua_getfield(L, -1, field);
    long v = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    return v;
}

double gen_get_number(lua_State *L, const char *field)
{
    lua_getfield(L, -1, field);
    double v = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    return v;
}

void gen_push_params(lua_State *L, const struct gen_param *params, int n)
{
    lua_newtable(L);
    for (int i = 0; i < n; i++) {
        lua_pushstring(L, params[i].value);
        lua_setfield(L, -2, params[i].name);
    }
}

void gen_push_spec(lua_State *L, const struct gen_kernel *k)
{
    lua_newtable(L);
    for (int i = 0; i < k->nspec; i++) {
        lua_pushinteger(L, k->param[i].value);
        lua_setfield(L, -2, k->param[i].name);
    }
}

char *gen_copy_text(lua_State *L, size_t *len)
{
    size_t n;
    const char *s = luaL_checklstring(L, -1, &n);
    char *copy = malloc(n + 1);
    if (!copy)
        luaL_error(L, "out of memory for %d bytes of text", (int)n);
    memcpy(copy, s, n + 1);
    if (len)
        *len = n;
    return copy;
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
    if (gen_protect(g, open_libraries, NULL, err) != 0)
        goto failed;
    *out = g;
    return 0;
failed:
    gen_close(g);
    return -1;
}

const char *gen_home(const struct gen *g)
{
    return g->home;
}

void gen_close(struct gen *g)
{
    if (!g)
        return;
    if (g->L)
        lua_close(g->L);
    free(g);
}
