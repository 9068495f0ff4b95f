/*
 * storage.c - what the agent knows of each storage of the signer
 */
#include "storage.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "log.h"
#include "xalloc.h"

static struct storage *
find(struct storages *list, const char *name)
{
	struct storage *st;

	TAILQ_FOREACH(st, list, link)
	{
		if (strcmp(st->name, name) == 0)
			return st;
	}
	return NULL;
}

struct storage *
storages_get(struct storages *list, const char *name)
{
	struct storage *st = find(list, name);
	size_t n = 0;

	if (st != NULL)
		return st;
	TAILQ_FOREACH(st, list, link) n++;
	if (n >= STORAGES_MAX)
		return NULL;
	st = xcalloc(1, sizeof(*st));
	st->name = xstrdup(name);
	pace_init(&st->pace);
	TAILQ_INSERT_TAIL(list, st, link);
	return st;
}

static void
hosts_drop(struct storage *st)
{
	for (size_t i = 0; i < st->hosts_n; i++)
		free(st->hosts[i]);
	free(st->hosts);
	st->hosts = NULL;
	st->hosts_n = 0;
	st->hosts_known = false;
}

void
storages_fini(struct storages *list)
{
	struct storage *st;

	while ((st = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, st, link);
		hosts_drop(st);
		recipe_answers_fini(&st->answers);
		free(st->name);
		free(st);
	}
}

static void
take_hosts(struct storages *list, const char *name, const cJSON *hosts)
{
	struct storage *st;
	const cJSON *e;

	if (name == NULL || !cJSON_IsArray(hosts) ||
	    cJSON_GetArraySize(hosts) > STORAGE_HOSTS_MAX)
		return;
	st = storages_get(list, name);
	if (st == NULL)
		return;
	hosts_drop(st);
	st->hosts = xcalloc(STORAGE_HOSTS_MAX, sizeof(*st->hosts));
	st->hosts_known = true;
	cJSON_ArrayForEach(e, hosts)
	{
		if (cJSON_IsString(e))
			st->hosts[st->hosts_n++] = xstrdup(e->valuestring);
	}
}

void
storages_hosts(struct storages *list, const cJSON *v)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, v)
	{
		const char *name = e->string;

		if (cJSON_IsArray(v))
			name = json_string(e, "name");
		take_hosts(
		    list, name, cJSON_GetObjectItemCaseSensitive(e, "hosts"));
	}
}

void
storages_answers(struct storages *list, const cJSON *v)
{
	struct recipe_answers rows;
	struct storage *st;
	const cJSON *e;
	char why[96];

	if (!cJSON_IsObject(v))
		return;
	cJSON_ArrayForEach(e, v)
	{
		st = find(list, e->string);
		if (st == NULL)
			continue;
		if (recipe_answers_parse(e, &rows, why, sizeof(why)) != 0) {
			log_warn("storage=%s: %s", st->name, why);
			continue;
		}
		recipe_answers_fini(&st->answers);
		st->answers = rows;
	}
}

cJSON *
storages_status(const struct storages *list, int64_t now_ms)
{
	cJSON *a = cJSON_CreateArray(), *o;
	const struct storage *st;

	TAILQ_FOREACH(st, list, link)
	{
		o = cJSON_CreateObject();
		cJSON_AddItemToArray(a, o);
		json_add_text(o, "name", st->name);
		cJSON_AddBoolToObject(o, "ok", st->error[0] == '\0');
		json_add_text(
		    o, "circuit", st->circuit.open ? "open" : "closed");
		if (st->circuit.open)
			json_add_int(o, "next_probe_ms",
			    circuit_wait_ms(&st->circuit, now_ms));
		json_add_text(o, "last_error", st->error);
		json_add_int(o, "running", st->running);
		json_add_int(o, "limit", (int64_t)st->pace.limit);
		json_add_int(o, "delivered", (int64_t)st->delivered);
		json_add_int(
		    o, "delivered_bytes", (int64_t)st->delivered_bytes);
		json_add_int(o, "failed", (int64_t)st->failed);
	}
	return a;
}
