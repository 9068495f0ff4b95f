/*
 * conf.c - fuzz target: any octets as gateway.conf
 *
 * Whatever comes in, there is either a configuration or at least one problem,
 * and each problem is one line of text.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway_conf.h"
#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
on_row(const struct conf_row *row, void *arg)
{
	assert(row->value != NULL && row->section != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct conf_problems *p = conf_problems_new();
	void *conf = NULL;
	int rc = conf_load_text(
	    &gateway_conf_table, "fuzz.conf", (const char *)data, n, p, &conf);

	assert((rc == 0) == (conf != NULL));
	assert((rc == 0) == (conf_problems_count(p) == 0));
	for (size_t i = 0; i < conf_problems_count(p); i++) {
		const char *s = conf_problems_get(p, i);

		assert(strncmp(s, "fuzz.conf:", 10) == 0);
		assert(strchr(s, '\n') == NULL);
		assert(json_utf8(s, strlen(s)));
	}
	if (conf != NULL) {
		conf_each(&gateway_conf_table, conf, on_row, NULL);
		gateway_conf_camera(conf, "10.0.0.1");
	}
	conf_free(&gateway_conf_table, conf);
	conf_problems_free(p);
	return 0;
}
