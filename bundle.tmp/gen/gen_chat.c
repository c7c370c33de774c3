#include "gen_chat.h"

#include <string.h>

#include "gen_state.h"

struct chat_call {
    const struct gen_chat_model *m;
    const char *name; /* family; NULL: find it */
    char *family;     /* [GEN_CHAT_NAME_MAX] written */
    bool first;
    const char *system, *user;
    gen_chat_part_fn fn;
    void *fn_user;
    int stopped;
};

static int lua_has(lua_State *L)
{
    const struct gen_chat_model *m = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushboolean(L, m->has(m->user, luaL_checkstring(L, 1)));
    return 1;
}

static void push_model(lua_State *L, const struct gen_chat_model *m)
{
    lua_newtable(L);
    lua_pushlstring(L, m->template, m->template_len);
    lua_setfield(L, -2, "template");
    lua_pushstring(L, m->bos);
    lua_setfield(L, -2, "bos");
    lua_pushstring(L, m->eos);
    lua_setfield(L, -2, "eos");
    lua_pushboolean(L, m->adds_bos);
    lua_setfield(L, -2, "adds_bos");
    lua_pushlightuserdata(L, (void *)m);
    lua_pushcclosure(L, lua_has, 1);
    lua_setfield(L, -2, "has");
}

static int find_protected(lua_State *L)
{
    struct chat_call *c = lua_touserdata(L, 1);
    if (c->name) {
        gen_push_function(L, "gen/chat.lua", "check");
        lua_pushstring(L, c->name);
        lua_call(L, 1, 0);
        lua_pushstring(L, c->name);
    } else {
        gen_push_function(L, "gen/chat.lua", "find");
        push_model(L, c->m);
        lua_call(L, 1, 1);
    }
    const char *name = luaL_checkstring(L, -1);
    if (strlen(name) >= GEN_CHAT_NAME_MAX)
        return luaL_error(L, "%s: the name is too long", name);
    strcpy(c->family, name);
    return 0;
}

int gen_chat_find(struct gen *g, const struct gen_chat_model *m, const char *want, char family[GEN_CHAT_NAME_MAX],
                  struct err *err)
{
    struct chat_call c = {.m = m, .name = want, .family = family};
    return gen_protect(g, find_protected, &c, err);
}

static int turn_protected(lua_State *L)
{
    struct chat_call *c = lua_touserdata(L, 1);
    gen_push_function(L, "gen/chat.lua", "turn");
    lua_pushstring(L, c->name);
    push_model(L, c->m);
    lua_newtable(L);
    lua_pushboolean(L, c->first);
    lua_setfield(L, -2, "first");
    lua_pushstring(L, c->user);
    lua_setfield(L, -2, "user");
    if (c->system) {
        lua_pushstring(L, c->system);
        lua_setfield(L, -2, "system");
    }
    lua_call(L, 3, 1);
    lua_Integer n = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= n && !c->stopped; i++) {
        bool markup = lua_geti(L, -1, i) == LUA_TSTRING;
        if (!markup)
            lua_geti(L, -1, 1);
        size_t len;
        const char *text = luaL_checklstring(L, -1, &len);
        c->stopped = c->fn(c->fn_user, text, len, markup);
        lua_pop(L, markup ? 1 : 2);
    }
    return 0;
}

int gen_chat_turn(struct gen *g, const char *family, const struct gen_chat_model *m, bool first, const char *system,
                  const char *user, gen_chat_part_fn fn, void *fn_user, struct err *err)
{
    struct chat_call c = {
        .m = m,
        .name = family,
        .first = first,
        .system = system,
        .user = user,
        .fn = fn,
        .fn_user = fn_user,
    };
    int failed = gen_protect(g, turn_protected, &c, err);
    return failed ? failed : c.stopped;
}
