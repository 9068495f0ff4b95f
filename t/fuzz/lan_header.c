/*
 * lan_header.c - fuzz target: header values that the LAN side reads itself
 *
 * Digests, conditions, parameters, passwords: proxy/expect.c, condition.c,
 * form.c and access.c. Lines "Name: value"; what was read of the digests says
 * the same when it is read again, and no answer to a challenge fits by chance.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy/access.h"
#include "../../proxy/condition.h"
#include "../../proxy/expect.h"
#include "../../proxy/form.h"
#include "checksum.h"
#include "etag.h"
#include "gateway_conf.h"
#include "spool.h"
#include "xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
try_digest(const char *name, const char *value)
{
	struct checksums once = { 0 }, twice;
	struct checksum_run *r;
	int rc = expect_header(name, value, &once);

	if (rc != 0)
		return;
	twice = once;
	assert(expect_header(name, value, &twice) == 0);
	assert(memcmp(&once, &twice, sizeof(once)) == 0);
	r = checksum_begin(&once, ~0U);
	assert((r == NULL) == (once.has == 0));
	checksum_update(r, value, strlen(value));
	(void)checksum_fits(r);
	checksum_free(r);
}

static void
try_condition(const char *value)
{
	struct spool_item items[2] = { { .size = 1 }, { .size = 2 } };
	bool readable = etag_readable(value);

	memset(items[1].sha256, 0xab, 32);
	if (condition_lists(value, true, items, 2))
		assert(condition_lists(value, false, items, 2));
	if (readable && strcmp(value, "*") == 0)
		assert(condition_lists(value, true, items, 1));
	assert(!condition_lists(value, false, items, 0));
}

static void
try_password(const char *value)
{
	static struct access *a;
	struct gateway_conf conf = { 0 };
	bool stale;

	if (a == NULL)
		a = access_new(&conf);
	assert(!access_fits(a, "user", "a password that no seed holds", "PUT",
	    "/upload/x", value, 1000, &stale));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *line = xmalloc(n + 1), *value, *p;

	memcpy(line, data, n);
	line[n] = '\0';
	value = strstr(line, ": ");
	if (value != NULL) {
		*value = '\0';
		value += 2;
		try_digest(line, value);
		try_condition(value);
		try_password(value);
		p = form_parameter(value, "filename");
		assert(p == NULL || strlen(p) <= strlen(value));
		free(p);
	}
	free(line);
	return 0;
}
