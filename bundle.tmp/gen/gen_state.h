#ifndef WEIR_GEN_STATE_H
#define WEIR_GEN_STATE_H

/* Inside gen/ only: the Lua state and how C calls into it. */

#include <lauxlib.h>
#include <lua.h>

#include "gen.h"

/* Runs fn with one light userdata under protection, so that it may raise Lua errors; one becomes *err and -1. */
int gen_protect(struct gen *g, lua_CFunction fn, void *arg, struct err *err);

/* Pushes a function of a module ("gen/spec.lua", "render"). Raises an error where there is none. */
void gen_push_function(lua_State *L, const char *module, const char *name);

/* A string field of the table on top, which must fit; a whole number; a number, 0 where there is none. */
void gen_get_text(lua_State *L, const char *field, char *out, size_t size);
long gen_get_integer(lua_State *L, const char *field);
double gen_get_number(lua_State *L, const char *field);

/* Pushes a table of the parameters, name -> text; a later one of the same name wins. */
void gen_push_params(lua_State *L, const struct gen_param *params, int n);

/* Pushes a table of a rendered kernel's shape and tile parameters, name -> value as C has it. */
void gen_push_spec(lua_State *L, const struct gen_kernel *k);

/* A copy of the string on top that the caller frees. */
char *gen_copy_text(lua_State *L, size_t *len);

#endif
