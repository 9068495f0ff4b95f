/*
 * firmware_devices.c - firmware devices: what runs on the devices of this site
 */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "format.h"
#include "json.h"
#include "url.h"
#include "xalloc.h"

#define DAEMON "edgehaul-proxy"
#define PAGE 200

/* The text under key for a terminal, "-" if there is none. malloc'd. */
static char *
cell(const cJSON *d, const char *key, size_t columns)
{
	const char *s = json_string(d, key);

	return format_text(s != NULL ? s : "-", columns);
}

static const char *
ago(struct small *b, const cJSON *d, const char *key)
{
	int64_t at, ms;

	if (json_int(d, key, 0, INT64_MAX / 1000, &at) != 0)
		return "-";
	ms = clock_wall_ms() - at * 1000;
	return format_time(b, ms > 0 ? ms : 0);
}

static void
add_device(struct table *t, const cJSON *d)
{
	static const struct {
		const char *key;
		size_t columns;
	} texts[] = { { "id", 32 }, { "address", 39 }, { "product", 24 },
		{ "hw", 12 }, { "version", 20 }, { "offered", 20 },
		{ "fetched_version", 20 }, { "failed", 20 } };
	const size_t n = sizeof(texts) / sizeof(texts[0]);
	const char *cells[sizeof(texts) / sizeof(texts[0]) + 1];
	struct small seen;

	for (size_t i = 0; i < n; i++)
		cells[i] = cell(d, texts[i].key, texts[i].columns);
	cells[n] = ago(&seen, d, "seen");
	table_row(t, cells);
	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)cells[i]);
}

static void
print_page(const struct ctl *ctl, const cJSON *devices, bool first)
{
	static const char *const head[] = { "DEVICE", "ADDRESS", "PRODUCT",
		"HW", "RUNS", "OFFERED", "FETCHED", "FAILED", "SEEN" };
	const cJSON *d;
	struct table *t;

	if (ctl->json) {
		cJSON_ArrayForEach(d, devices)
		{
			char *line = json_line(d);

			puts(line);
			free(line);
		}
		return;
	}
	t = table_new(sizeof(head) / sizeof(head[0]));
	if (first)
		table_row(t, head);
	cJSON_ArrayForEach(d, devices) add_device(t, d);
	table_print(t, 1u << 8, stdout);
	table_free(t);
}

/* GET the page behind the device `after`; NULL: the first. */
static int
get_page(const struct ctl *ctl, const char *after, cJSON **page_out)
{
	char *id = after != NULL ? url_encode(after, strlen(after), "") : NULL;
	char *path = xasprintf("/firmware/devices?limit=%d%s%s", PAGE,
	    id != NULL ? "&after=" : "", id != NULL ? id : "");
	int rc = client_json(ctl, DAEMON, path, false, page_out);

	free(path);
	free(id);
	return rc;
}

int
ctl_firmware_devices(struct ctl *ctl)
{
	char *after = NULL;
	bool first = true;
	int rc;

	do {
		cJSON *page = NULL;
		const char *next;

		rc = get_page(ctl, after, &page);
		free(after);
		after = NULL;
		if (rc != EXIT_GOOD || page == NULL)
			return rc;
		print_page(ctl,
		    cJSON_GetObjectItemCaseSensitive(page, "devices"), first);
		next = json_string(page, "next");
		if (next != NULL)
			after = xstrdup(next);
		first = false;
		cJSON_Delete(page);
	} while (after != NULL);
	return EXIT_GOOD;
}
