/*
 * spool.c - spool stat, check, rebuild: for the day when they are needed
 *
 * While the proxy runs it answers, and checks files itself. Only when it is
 * down does this program look at the spool's files, reading and never changing
 * one; the index is never opened. rebuild moves it aside and leaves the rest to
 * the proxy's next start; with a daemon running that would split the two, so
 * it is refused then.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format.h"
#include "gateway_conf.h"
#include "json.h"
#include "layout.h"
#include "verify.h"
#include "xalloc.h"

#define PROXY "edgehaul-proxy"
#define POLL_MS 300

static int64_t
number(const cJSON *o, const char *key)
{
	int64_t v = 0;

	json_int(o, key, 0, INT64_MAX, &v);
	return v;
}

static void
put_line(const cJSON *o)
{
	char *s = json_line(o);

	puts(s);
	free(s);
}

/* ---- stat ---------------------------------------------------------------- */

static void
print_stat(const cJSON *ledger, const cJSON *spool)
{
	struct small a, b;

	printf("items    %s waiting, %s quarantined\n",
	    format_count(&a, number(ledger, "waiting")),
	    format_count(&b, number(ledger, "quarantined")));
	printf("bytes    %s of %s\n",
	    format_size(&a, number(spool, "waiting_bytes")),
	    format_size(&b, number(spool, "max_size")));
	printf("index    %" PRId64 " %% of its room, %s rows to come%s\n",
	    number(spool, "index_percent"),
	    format_count(&a, number(spool, "not_indexed")),
	    json_bool(spool, "rebuilding", false) ? ", being rebuilt" : "");
	if (cJSON_IsNumber(
		cJSON_GetObjectItemCaseSensitive(spool, "oldest_age")))
		printf("oldest   %s\n",
		    format_time(&a, number(spool, "oldest_age") * 1000));
	else
		printf("oldest   nothing waits\n");
	printf("folders  %s\n", format_count(&a, number(spool, "folders")));
	printf(
	    "disk     %s free\n", format_size(&a, number(spool, "disk_free")));
}

int
ctl_spool_stat(struct ctl *ctl)
{
	cJSON *v = NULL, *spool, *ledger;
	int rc = client_json(ctl, PROXY, "/-/status.json", false, &v);

	if (rc != 0)
		return rc;
	spool = cJSON_DetachItemFromObjectCaseSensitive(v, "spool");
	ledger = cJSON_GetObjectItemCaseSensitive(v, "ledger");
	if (ctl->json) {
		json_add_int(spool, "waiting", number(ledger, "waiting"));
		json_add_int(
		    spool, "quarantined", number(ledger, "quarantined"));
		put_line(spool);
	} else {
		print_stat(ledger, spool);
	}
	cJSON_Delete(spool);
	cJSON_Delete(v);
	return EXIT_GOOD;
}

/* ---- check --------------------------------------------------------------- */

static void
print_bad(const struct ctl *ctl, const char *id, const char *reason)
{
	cJSON *o;

	if (!ctl->json) {
		printf("%s %s\n", id, reason);
		return;
	}
	o = cJSON_CreateObject();
	json_add_text(o, "id", id);
	json_add_text(o, "reason", reason);
	put_line(o);
	cJSON_Delete(o);
}

/* The last line; the exit code. */
static int
print_sum(const struct ctl *ctl, int64_t checked, int64_t octets, int64_t bad,
    const char *what_now)
{
	struct small n, size, b;
	cJSON *o;

	if (ctl->json) {
		o = cJSON_CreateObject();
		json_add_int(o, "checked", checked);
		json_add_int(o, "bytes", octets);
		json_add_int(o, "bad", bad);
		put_line(o);
		cJSON_Delete(o);
	} else if (bad == 0) {
		printf("%s file%s (%s) checked: all good.\n",
		    format_count(&n, checked), checked == 1 ? "" : "s",
		    format_size(&size, octets));
	} else {
		printf("%s file%s (%s) checked, %s damaged: %s\n",
		    format_count(&n, checked), checked == 1 ? "" : "s",
		    format_size(&size, octets), format_count(&b, bad),
		    what_now);
	}
	return bad == 0 ? EXIT_GOOD : EXIT_IO;
}

static int
print_check(const struct ctl *ctl, const cJSON *v)
{
	const cJSON *c, *list = cJSON_GetObjectItemCaseSensitive(v, "damaged");

	cJSON_ArrayForEach(c, list)
	{
		const char *id = json_string(c, "id");
		const char *why = json_string(c, "reason");
		char *text = format_text(why != NULL ? why : "", 200);

		print_bad(ctl, id != NULL ? id : "?", text);
		free(text);
	}
	return print_sum(ctl, number(v, "checked"), number(v, "bytes"),
	    number(v, "bad"),
	    "they go to quarantine; edgehaul queue ls lists them");
}

/* The proxy checks; wait until it has. */
static int
follow_check(const struct ctl *ctl, cJSON *v)
{
	const struct timespec pause = { 0, POLL_MS * 1000000L };
	int64_t mine = number(v, "number");
	int rc = 0;

	while (rc == 0 && json_bool(v, "running", false) &&
	    number(v, "number") == mine) {
		cJSON_Delete(v);
		v = NULL;
		nanosleep(&pause, NULL);
		rc = client_json(ctl, PROXY, "/spool/check", false, &v);
	}
	if (rc == 0)
		rc = print_check(ctl, v);
	cJSON_Delete(v);
	return rc;
}

struct walk {
	const struct ctl *ctl;
	int item;
	uint64_t epoch, now; /* of the file at hand */
	int64_t checked, octets, bad;
	int denied;
};

static bool
on_piece(size_t n, void *arg)
{
	struct walk *w = arg;

	w->octets += (int64_t)n;
	return true;
}

static void
check_file(struct walk *w, int dir, const char *name)
{
	const char *why = "it cannot be read";
	char id[33];
	int fd, rc;

	if (!layout_parse_seq(name, &w->now))
		return;
	fd = verify_open(dir, name);
	if (fd == -ENOENT)
		return;
	if (fd == -EBADMSG)
		why = "it is no file";
	rc = fd < 0 ? fd : verify_file(fd, w->now, on_piece, w, &why);
	if (fd >= 0)
		close(fd);
	if (rc == -EACCES || rc == -EPERM) {
		w->denied++;
		return;
	}
	w->checked++;
	if (rc == 0)
		return;
	w->bad++;
	layout_id(w->epoch, w->now, id);
	print_bad(w->ctl, id, why);
}

static void
check_folder(struct walk *w, const char *name)
{
	struct dirent *e;
	uint64_t prefix;
	DIR *d;
	int fd;

	if (!layout_parse_dir(name, &prefix))
		return;
	fd = openat(w->item, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (d == NULL) {
		w->denied += errno == EACCES || errno == EPERM;
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)) != NULL)
		if (e->d_type != DT_DIR)
			check_file(w, dirfd(d), e->d_name);
	closedir(d);
}

/* The proxy is down: footers and bodies, and nothing but those. */
static int
check_files(const struct ctl *ctl)
{
	char *path = gateway_conf_path(ctl->conf, "spool");
	char *item = xasprintf("%s/item", path);
	struct walk w = { .ctl = ctl };
	DIR *d = opendir(item);
	struct dirent *e;
	int rc;

	if (d == NULL) {
		rc = errno == EACCES ? EXIT_DENIED : EXIT_DOWN;
		fprintf(stderr,
		    "edgehaul: %s does not run, and %s: %s. Start it, or use "
		    "its user (or root) for this.\n",
		    PROXY, item, strerror(errno));
	} else {
		w.item = dirfd(d);
		layout_read_epoch(path, &w.epoch);
		if (!ctl->json)
			printf("%s does not run: reading %s\n", PROXY, item);
		while ((e = readdir(d)) != NULL)
			check_folder(&w, e->d_name);
		closedir(d);
		rc = print_sum(ctl, w.checked, w.octets, w.bad,
		    "when they are to be sent they go to quarantine");
		if (!ctl->json)
			printf("Whether one is missing the index knows: start "
			       "%s and check again.\n",
			    PROXY);
		if (w.denied > 0) {
			fprintf(stderr,
			    "edgehaul: %d could not be read for lack of "
			    "permission\n",
			    w.denied);
			rc = EXIT_DENIED;
		}
	}
	free(item);
	free(path);
	return rc;
}

int
ctl_spool_check(struct ctl *ctl)
{
	cJSON *v = NULL;
	int rc = client_post_json(ctl, PROXY, "/spool/check", true, &v);

	if (rc == EXIT_DOWN)
		return check_files(ctl);
	return rc != 0 ? rc : follow_check(ctl, v);
}

/* ---- rebuild ------------------------------------------------------------- */

static bool
confirmed(const struct ctl *ctl)
{
	char line[16] = "";

	printf("The index of the spool will be made anew from the files when "
	       "%s starts.\n"
	       "  - Every file that waits is kept, and sent.\n"
	       "  - The store is asked for each before it is sent again.\n"
	       "  - Lost: numbers of tries, planned times, what was held; the "
	       "ledger counts anew.\n"
	       "It is needed when the log says that the index is damaged; not "
	       "to make it faster.\n",
	    PROXY);
	if (ctl->yes)
		return true;
	if (!isatty(STDIN_FILENO)) {
		fprintf(stderr, "edgehaul: give --yes to do it\n");
		return false;
	}
	printf("Type yes to do it: ");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) != NULL &&
	    strcmp(line, "yes\n") == 0;
}

/* Nobody may have the spool open. */
static bool
anybody_there(const char *dir)
{
	static const char *const locks[] = { ".writer.lock", ".drainer.lock" };
	bool there = false;

	for (size_t i = 0; i < 2; i++) {
		char *path = xasprintf("%s/%s", dir, locks[i]);
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
			fprintf(stderr,
			    "edgehaul: %s runs: systemctl stop edgehaul-proxy "
			    "edgehaul-agent first, start them afterwards\n",
			    i == 0 ? PROXY : "edgehaul-agent");
			there = true;
		}
		if (fd >= 0)
			close(fd);
		free(path);
		if (there)
			break;
	}
	return there;
}

static int
move_aside(const char *dir)
{
	char *from = xasprintf("%s/index", dir), stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	char *to;
	int rc = EXIT_GOOD;

	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	to = xasprintf("%s/index.aside-%s", dir, stamp);
	if (access(from, F_OK) != 0 && errno == ENOENT) {
		printf("There is no index: the next start makes it.\n");
	} else if (rename(from, to) != 0) {
		fprintf(stderr, "edgehaul: %s: %s\n", from, strerror(errno));
		rc = errno == EACCES || errno == EPERM ? EXIT_DENIED : EXIT_IO;
	} else {
		printf("Done: systemctl start edgehaul-proxy edgehaul-agent\n"
		       "The old index is %s; remove it when all is well.\n",
		    to);
	}
	free(from);
	free(to);
	return rc;
}

int
ctl_spool_rebuild(struct ctl *ctl)
{
	char *dir = gateway_conf_path(ctl->conf, "spool");
	int rc;

	if (access(dir, F_OK) != 0) {
		fprintf(stderr, "edgehaul: %s: %s\n", dir, strerror(errno));
		rc = EXIT_DOWN;
	} else if (anybody_there(dir)) {
		rc = EXIT_LATER;
	} else if (!confirmed(ctl)) {
		rc = EXIT_USAGE;
	} else {
		rc = move_aside(dir);
	}
	free(dir);
	return rc;
}
