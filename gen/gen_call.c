/* One call for Lua scripts that turn data into text: reports. */
#include "gen_state.h"

#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 32 };

struct text_call {
    const char *module, *function;
    const cJSON *data;
    char **text;
};

static void push_value(lua_State *L, const cJSON *j, int depth)
{
    luaL_checkstack(L, 4, "data nested too deeply");
    if (depth > DEPTH_MAX)
        luaL_error(L, "data nested too deeply");
    if (cJSON_IsNumber(j)) {
        double v = j->valuedouble;
        if (v == (double)(lua_Integer)v)
            lua_pushinteger(L, (lua_Integer)v);
        else
            lua_pushnumber(L, v);
    } else if (cJSON_IsString(j)) {
        lua_pushstring(L, j->valuestring);
    } else if (cJSON_IsBool(j)) {
        lua_pushboolean(L, cJSON_IsTrue(j));
    } else if (cJSON_IsArray(j) || cJSON_IsObject(j)) {
        lua_newtable(L);
        lua_Integer n = 0;
        for (const cJSON *item = j->child; item; item = item->next) {
            push_value(L, item, depth + 1);
            if (cJSON_IsArray(j))
                lua_rawseti(L, -2, ++n);
            else
                lua_setfield(L, -2, item->string);
        }
    } else {
        lua_pushnil(L);
    }
}

static int text_protected(lua_State *L)
{
    struct text_call *c = lua_touserdata(L, 1);
    gen_push_function(L, c->module, c->function);
    push_value(L, c->data, 0);
    lua_call(L, 1, 1);
    *c->text = gen_copy_text(L, NULL);
    return 0;
}

int gen_text(struct gen *g, const char *module, const char *function, const char *json, char **text, struct err *err)
{
    cJSON *data = cJSON_Parse(json);
    if (!data)
        return err_set(err, "%s: the data for it is no JSON", module);
    struct text_call c = {module, function, data, text};
    *text = NULL;
    int status = gen_protect(g, text_protected, &c, err);
    cJSON_Delete(data);
    return status;
}
