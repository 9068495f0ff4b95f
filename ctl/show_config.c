/*
 * show_config.c - each setting's value and where it comes from
 */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway_conf.h"
#include "json.h"

int
ctl_load(struct ctl *ctl)
{
	struct conf_problems *p;
	void *conf = NULL;
	int rc;

	if (ctl->conf != NULL)
		return 0;
	p = conf_problems_new();
	rc = conf_load(&gateway_conf_table, ctl->config, p, &conf);
	for (size_t i = 0; i < conf_problems_count(p); i++)
		fprintf(stderr, "%s\n", conf_problems_get(p, i));
	conf_problems_free(p);
	ctl->conf = conf;
	return rc != 0 ? EXIT_CONFIG : 0;
}

static void
print_json(const struct conf_row *row, const char *value)
{
	cJSON *o = cJSON_CreateObject();
	char *s;

	json_add_text(o, "section", row->section);
	json_add_text(o, "name", row->key->name);
	json_add_text(o, "value", value);
	json_add_text(o, "default", row->key->dflt);
	json_add_text(o, "file", row->file);
	if (row->file != NULL)
		json_add_int(o, "line", row->line);
	cJSON_AddBoolToObject(
	    o, "reload", (row->key->flags & CONF_F_RELOAD) != 0);
	json_add_text(o, "help", row->key->help);
	s = json_line(o);
	puts(s);
	free(s);
	cJSON_Delete(o);
}

static void
on_row(const struct conf_row *row, void *arg)
{
	const struct ctl *ctl = arg;
	const char *value = row->value;

	if (ctl->changed && row->file == NULL)
		return;
	if (ctl->defaults)
		value = row->key->dflt != NULL ? row->key->dflt : "none";
	if (ctl->json)
		print_json(row, value);
	else if (ctl->defaults)
		printf("[%s] %s = %s\n", row->section, row->key->name, value);
	else if (row->file != NULL)
		printf("[%s] %s = %s   (%s:%u)\n", row->section, row->key->name,
		    value, row->file, row->line);
	else
		printf("[%s] %s = %s   (default)\n", row->section,
		    row->key->name, value);
}

int
ctl_show_config(struct ctl *ctl)
{
	int rc;

	if (ctl->changed && ctl->defaults) {
		fprintf(
		    stderr, "edgehaul: --changed or --defaults, not both\n");
		return EXIT_USAGE;
	}
	rc = ctl_load(ctl);
	if (rc != 0)
		return rc;
	conf_each(&gateway_conf_table, ctl->conf, on_row, ctl);
	return EXIT_GOOD;
}
