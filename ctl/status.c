/*
 * status.c - is all well
 *
 * The first line is a sentence that answers it: what happened, are the files
 * safe, what to do. Numbers follow. They come from the proxy's status.json,
 * which --json hands on, and from the agent for what it is doing just now;
 * one of the two may be down, and that is then the sentence.
 */
#include "ctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "gateway_conf.h"
#include "json.h"

/* What was saved is shown for so many. */
#define CAMERAS_SHOWN 20

struct view {
	const cJSON *ledger, *spool;    /* of the proxy */
	const cJSON *signer, *storages; /* of the agent */
	const cJSON *cameras;           /* of the proxy */
	const cJSON *images;            /* of the agent */
	bool agent_up, agent_spool;     /* it runs; it has opened the spool */
};

static int64_t
number(const cJSON *o, const char *key)
{
	int64_t v = 0;

	json_int(o, key, INT64_MIN, INT64_MAX, &v);
	return v;
}

static const cJSON *
member(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* The last error of a storage that does not work; NULL: all do. */
static const char *
storage_error(const struct view *v)
{
	const cJSON *s;

	cJSON_ArrayForEach(
	    s, v->storages) if (!json_bool(s, "ok", true)) return json_string(s,
	    "last_error");
	return NULL;
}

static void
say_error(const char *before, const char *error, const char *after)
{
	char *e = format_text(error != NULL ? error : "no reason known", 200);

	printf("%s (%s)%s", before, e, after);
	free(e);
}

/* "; 132 files (210 MB) are safe on disk, the oldest for 4 min." */
static void
say_waiting(const struct view *v)
{
	int64_t n = number(v->ledger, "waiting");
	int64_t age = number(v->spool, "oldest_age") * 1000;
	struct small count, size, oldest;

	if (n == 0) {
		printf("; nothing waits.\n");
		return;
	}
	printf("; %s file%s (%s) %s safe on disk", format_count(&count, n),
	    n == 1 ? "" : "s",
	    format_size(&size, number(v->spool, "waiting_bytes")),
	    n == 1 ? "is" : "are");
	if (cJSON_IsNumber(member(v->spool, "oldest_age")))
		printf(", the oldest for %s", format_time(&oldest, age));
	printf(".\n");
}

static int
silent_cameras(const struct view *v)
{
	const cJSON *c;
	int n = 0;

	cJSON_ArrayForEach(c, v->cameras) n += json_bool(c, "silent", false);
	return n;
}

/* The one sentence. */
static void
say(const struct view *v)
{
	const char *store = storage_error(v);

	if (json_bool(v->spool, "failing", false))
		say_error("Nothing can be written: uploads are refused",
		    json_string(v->spool, "why"),
		    "; look for errors of the disk in the kernel's log");
	else if (json_bool(v->spool, "full", false))
		say_error("The spool is full: uploads are refused",
		    json_string(v->spool, "why"), "");
	else if (!v->agent_up)
		printf("The agent does not run, so nothing is uploaded "
		       "(systemctl start edgehaul-agent)");
	else if (!v->agent_spool)
		printf("The agent cannot open the spool, so nothing is "
		       "uploaded (its log tells why)");
	else if (!json_bool(v->signer, "ok", true))
		say_error("The signer cannot be used",
		    json_string(v->signer, "last_error"), "");
	else if (store != NULL)
		say_error("The store cannot be used", store, "");
	else if (json_bool(v->spool, "rebuilding", false))
		printf("The index is being rebuilt");
	else if (silent_cameras(v) > 0)
		printf("%d camera%s silent", silent_cameras(v),
		    silent_cameras(v) == 1 ? " is" : "s are");
	else
		printf("All good");
	say_waiting(v);
}

/* "camera dock-left is silent for 12 min (it should send every 5 min)" */
static void
print_silent(const struct view *v)
{
	struct small quiet, every;
	const cJSON *c;

	cJSON_ArrayForEach(c, v->cameras)
	{
		const char *s = json_string(c, "name");
		char *name = format_text(s != NULL ? s : "?", 64);

		if (json_bool(c, "silent", false))
			printf("camera %s is silent for %s (it should send "
			       "every %s)\n",
			    name,
			    format_time(&quiet, number(c, "silent_for") * 1000),
			    format_time(
				&every, number(c, "expect_every") * 1000));
		free(name);
	}
}

static void
print_ledger(const struct view *v)
{
	static const char *const keys[] = { "accepted", "delivered", "expired",
		"evicted", "dropped", "quarantined", "waiting" };
	struct small b;

	printf("\nledger ");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		printf("%s%s %s",
		    i == 0       ? ""
			: i == 1 ? " = "
				 : " + ",
		    format_count(&b, number(v->ledger, keys[i])), keys[i]);
	printf("\n");
}

static void
print_spool(const struct view *v)
{
	int64_t sending = number(v->spool, "sending");
	int64_t held = number(v->spool, "held"); /* both wait, by the ledger */
	struct small a, b, c;

	printf("queue  %s waiting, %s sending, %s held\n",
	    format_count(&a, number(v->ledger, "waiting") - sending - held),
	    format_count(&b, sending), format_count(&c, held));
	printf("disk   %s of %s used, %s free on the disk, index %" PRId64
	       " %% full\n",
	    format_size(&a, number(v->spool, "waiting_bytes")),
	    format_size(&b, number(v->spool, "max_size")),
	    format_size(&c, number(v->spool, "disk_free")),
	    number(v->spool, "index_percent"));
}

static void
print_storage(const cJSON *s)
{
	const char *name = json_string(s, "name");
	const char *error = json_string(s, "last_error");
	char *n = format_text(name != NULL ? name : "?", 40);
	char *e = format_text(error != NULL ? error : "", 200);
	struct small running, done, failed;

	printf("store  %s: %s, %s running, %s delivered, %s failed tries%s%s\n",
	    n, json_bool(s, "ok", true) ? "good" : "fails",
	    format_count(&running, number(s, "running")),
	    format_count(&done, number(s, "delivered")),
	    format_count(&failed, number(s, "failed")),
	    *e != '\0' ? "; last error: " : "", e);
	free(n);
	free(e);
}

static void
print_agent(const struct view *v)
{
	const char *url = json_string(v->signer, "url");
	char *u = format_text(url != NULL ? url : "?", 80);
	const cJSON *s;
	struct small ago;

	if (!v->agent_up) {
		printf("agent  does not run\n");
		free(u);
		return;
	}
	printf("agent  runs; signer %s: %s", u,
	    json_bool(v->signer, "ok", true) ? "good" : "fails");
	if (cJSON_IsNumber(member(v->signer, "last_ok_s")))
		printf(", last answer %s ago",
		    format_time(&ago, number(v->signer, "last_ok_s") * 1000));
	printf("\n");
	free(u);
	cJSON_ArrayForEach(s, v->storages) print_storage(s);
}

/* "27 files, 1.4 MB became 1.1 MB: 23 % saved; 2 damaged; 1.2 s of ..." */
static void
print_saved(const cJSON *o, int64_t damaged, int64_t failed)
{
	int64_t before = number(o, "bytes_in"), after = number(o, "bytes_out");
	struct small n, a, b, c, d;

	printf("%s file%s, %s became %s: %" PRId64 " %% saved; ",
	    format_count(&n, number(o, "files")),
	    number(o, "files") == 1 ? "" : "s", format_size(&a, before),
	    format_size(&b, after),
	    before > 0 ? (before - after) * 100 / before : 0);
	if (damaged > 0)
		printf("%s damaged; ", format_count(&d, damaged));
	if (failed > 0)
		printf("%s failed; ", format_count(&d, failed));
	printf("%s of processor time\n", format_time(&c, number(o, "cpu_ms")));
}

static int64_t
images_failed(const cJSON *outcomes)
{
	static const char *const keys[] = { "differs", "failed", "died",
		"timeout", "no_worker" };
	int64_t n = 0;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		n += number(outcomes, keys[i]);
	return n;
}

/* What image workers have saved since the agent's start, in all and for the
 * first cameras. */
static void
print_images(const struct view *v)
{
	const cJSON *why = member(v->images, "outcomes"), *c;
	const cJSON *cameras = member(v->images, "cameras");
	int n = 0, all = cJSON_GetArraySize(cameras);

	if (number(v->images, "files") == 0)
		return;
	printf("images ");
	print_saved(v->images, number(why, "damaged"), images_failed(why));
	cJSON_ArrayForEach(c, cameras)
	{
		const char *s = json_string(c, "device");
		char *name = format_text(s != NULL ? s : "?", 64);

		if (n++ < CAMERAS_SHOWN) {
			printf("       %s: ", name);
			print_saved(
			    c, number(c, "damaged"), number(c, "failed"));
		}
		free(name);
	}
	if (all > CAMERAS_SHOWN)
		printf("       and %d more cameras: see --json\n",
		    all - CAMERAS_SHOWN);
}

static int
print_plain(const struct ctl *ctl, const cJSON *proxy)
{
	struct view v = { member(proxy, "ledger"), member(proxy, "spool") };
	cJSON *agent = NULL;
	int rc = client_json(ctl, "edgehaul-agent", "/status", true, &agent);

	v.agent_up = rc == 0;
	v.agent_spool = json_bool(agent, "spool", true);
	v.signer = member(agent, "signer");
	v.storages = member(agent, "storages");
	v.cameras = member(proxy, "cameras");
	v.images = member(agent, "images");
	say(&v);
	print_silent(&v);
	print_ledger(&v);
	print_spool(&v);
	print_agent(&v);
	print_images(&v);
	cJSON_Delete(agent);
	return rc == EXIT_DOWN || rc == EXIT_LATER ? EXIT_GOOD : rc;
}

int
ctl_status(struct ctl *ctl)
{
	cJSON *v = NULL;
	int rc =
	    client_json(ctl, "edgehaul-proxy", "/-/status.json", false, &v);

	if (rc != 0)
		return rc;
	if (ctl->json) {
		char *s = json_line(v);

		puts(s);
		free(s);
	} else {
		rc = print_plain(ctl, v);
	}
	cJSON_Delete(v);
	return rc;
}
