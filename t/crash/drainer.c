/*
 * drainer.c - an agent without a cloud, for tests of the spool
 *
 *	drainer SPOOL [-n COUNT] [-l FILE] [-g] [-1]
 *
 * Takes uploads as the agent does: opens and reads the body, compares its
 * SHA-256, has it marked as sending, and then, by its number, delivers it,
 * defers it once, or puts it into quarantine. One line on stdout for each
 * step, before it is taken: "STEP ID OFFSET", where OFFSET is the size of FILE
 * at that moment (of the log of a disk, see wlog.c). -n: ends after so many
 * are done with; -g: delivers all that is good; -1: the
 * same, one at a time.
 * Ends by itself when nothing has waited for a second.
 *
 *	drainer SPOOL hold read|write
 *
 * Begins a transaction on the index, says "held" and waits to be killed.
 *
 *	drainer SPOOL grow OCTETS
 *
 * Writes so many octets into a table of its own and takes them out again, with
 * a map as large as that needs: other processes find theirs too small.
 */
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <event2/event.h>
#include <lmdb.h>
#include <openssl/evp.h>

#include "log.h"
#include "spool.h"
#include "xalloc.h"

#define PAGE 16
#define QUIET_MAX 20 /* looks that found nothing, 50 ms apart */

struct drainer {
	struct event_base *base;
	struct spool *sp;
	const char *log;
	bool all, one;              /* -g, -1 */
	unsigned long wanted, over; /* uploads */
	unsigned busy, quiet;
	struct event *look;
};

struct sending {
	struct drainer *d;
	struct spool_item it; /* texts are not kept */
	bool good;
};

static void
say(struct drainer *d, const char *step, const char *id)
{
	struct stat st = { 0 };

	if (d->log != NULL && stat(d->log, &st) != 0)
		err(1, "%s", d->log);
	printf("%s %s %lld\n", step, id, (long long)st.st_size);
	fflush(stdout);
}

static void
look_again(struct drainer *d)
{
	struct timeval soon = { 0, 50000 };

	if (d->busy > 0)
		return;
	if (d->over >= d->wanted || d->quiet > QUIET_MAX)
		event_base_loopexit(d->base, NULL);
	else
		event_add(d->look, &soon);
}

static void
on_over(int rc, void *arg)
{
	struct sending *s = arg;
	struct drainer *d = s->d;

	say(d, rc == 0 ? "over" : "failed", s->it.id);
	if (rc != 0)
		warnx("%s: %s", s->it.id, strerror(-rc));
	d->over++;
	d->busy--;
	free(s);
	look_again(d);
}

/* Does the body have the SHA-256 that its row tells? */
static bool
body_is_good(struct drainer *d, const struct spool_item *it)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char buf[65536], sum[32];
	uint64_t off = 0;
	ssize_t n = 1;
	int fd;

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	if (spool_open_body(d->sp, it, &fd) != 0) {
		EVP_MD_CTX_free(md);
		return false;
	}
	for (; off < it->size && n > 0; off += (uint64_t)n) {
		size_t want = it->size - off < sizeof(buf)
		    ? (size_t)(it->size - off)
		    : sizeof(buf);

		n = pread(fd, buf, want, (off_t)off);
		if (n > 0)
			EVP_DigestUpdate(md, buf, (size_t)n);
	}
	EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	close(fd);
	return off == it->size && memcmp(sum, it->sha256, 32) == 0;
}

static void
settle(struct sending *s)
{
	struct drainer *d = s->d;
	uint64_t seq = s->it.seq;

	if (!s->good || (!d->all && seq % 11 == 5)) {
		say(d, s->good ? "quarantine" : "bad", s->it.id);
		spool_quarantine(d->sp, seq, "cannot be read back", on_over, s);
	} else if (!d->all && seq % 7 == 3 && s->it.attempts == 0) {
		say(d, "defer", s->it.id);
		spool_defer(d->sp, seq, 100, true, "later", on_over, s);
	} else {
		say(d, "end", s->it.id);
		spool_end(d->sp, seq, SPOOL_DELIVERED, "", on_over, s);
	}
}

static void
on_sent(int rc, const uint64_t *gone, size_t gone_n, void *arg)
{
	struct sending *s = arg;
	struct drainer *d = s->d;

	if (rc == 0 && gone_n == 0) {
		settle(s);
		return;
	}
	say(d, "failed", s->it.id);
	if (rc != 0)
		warnx("%s: %s", s->it.id, strerror(-rc));
	d->busy--;
	free(s);
	look_again(d);
}

static void
send_item(struct drainer *d, struct spool_item *it)
{
	struct sending *s = xcalloc(1, sizeof(*s));
	struct spool_item offer = *it;
	char key[80];

	s->d = d;
	s->it = *it;
	s->it.device = s->it.name = s->it.type = s->it.address = NULL;
	s->good = body_is_good(d, it);
	snprintf(key, sizeof(key), "key/%s", it->id);
	offer.storage = "default";
	offer.key = key;
	offer.encoding = "";
	offer.offer_size = it->size;
	memcpy(offer.offer_sha256, it->sha256, 32);
	d->busy++;
	say(d, "send", it->id);
	spool_send(d->sp, &offer, 1, on_sent, s);
}

static void
on_items(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct drainer *d = arg;

	d->quiet = n == 0 ? d->quiet + 1 : 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		send_item(d, &items[i]);
	look_again(d);
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct drainer *d = arg;

	spool_ready(d->sp, 0, 0, d->one ? 1 : PAGE, on_items, d);
}

static void
on_requeued(int rc, void *arg)
{
	struct drainer *d = arg;

	if (rc != 0)
		warnx("requeue: %s", strerror(-rc));
	on_look(-1, 0, d);
}

static int
drain(struct drainer *d, const char *dir)
{
	struct spool_options opt = { .max_size = 1 << 30,
		.max_upload = 1 << 30 };
	char *why = NULL;
	int rc;

	d->base = event_base_new();
	d->look = evtimer_new(d->base, on_look, d);
	rc = spool_open(d->base, dir, SPOOL_DRAINER, &opt, &d->sp, &why);
	if (rc != 0)
		errx(1, "%s: %s", dir, why != NULL ? why : strerror(-rc));
	say(d, "open", "-");
	spool_requeue(d->sp, on_requeued, d);
	event_base_dispatch(d->base);
	spool_close(d->sp);
	event_free(d->look);
	event_base_free(d->base);
	return 0;
}

static int
hold(const char *dir, bool write)
{
	char *path = xasprintf("%s/index", dir);
	MDB_env *env;
	MDB_txn *txn;
	int rc;

	if ((rc = mdb_env_create(&env)) != 0 ||
	    (rc = mdb_env_set_maxreaders(env, 64)) != 0 ||
	    (rc = mdb_env_set_mapsize(env, 1 << 30)) != 0 ||
	    (rc = mdb_env_open(env, path, 0, 0660)) != 0 ||
	    (rc = mdb_txn_begin(env, NULL, write ? 0 : MDB_RDONLY, &txn)) != 0)
		errx(1, "%s: %s", path, mdb_strerror(rc));
	printf("held\n");
	fflush(stdout);
	for (;;)
		pause();
}

static int
grow(const char *dir, size_t octets)
{
	char *path = xasprintf("%s/index", dir), junk[4000] = "";
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc;

	if ((rc = mdb_env_create(&env)) != 0 ||
	    (rc = mdb_env_set_maxreaders(env, 64)) != 0 ||
	    (rc = mdb_env_set_maxdbs(env, 8)) != 0 ||
	    (rc = mdb_env_set_mapsize(env, 1 << 30)) != 0 ||
	    (rc = mdb_env_open(env, path, 0, 0660)) != 0 ||
	    (rc = mdb_txn_begin(env, NULL, 0, &txn)) != 0 ||
	    (rc = mdb_dbi_open(txn, "junk", MDB_CREATE, &dbi)) != 0)
		errx(1, "%s: %s", path, mdb_strerror(rc));
	for (size_t i = 0; rc == 0 && i < octets / sizeof(junk); i++) {
		MDB_val k = { sizeof(i), &i }, v = { sizeof(junk), junk };

		rc = mdb_put(txn, dbi, &k, &v, 0);
	}
	if (rc != 0 || (rc = mdb_txn_commit(txn)) != 0 ||
	    (rc = mdb_txn_begin(env, NULL, 0, &txn)) != 0 ||
	    (rc = mdb_drop(txn, dbi, 1)) != 0 ||
	    (rc = mdb_txn_commit(txn)) != 0)
		errx(1, "%s: %s", path, mdb_strerror(rc));
	mdb_env_close(env);
	free(path);
	return 0;
}

int
main(int argc, char **argv)
{
	struct drainer d = { .wanted = ULONG_MAX };
	const char *dir = argv[1];
	int c;

	log_level = LOG_WARN;
	if (argc == 4 && strcmp(argv[2], "hold") == 0)
		return hold(dir, strcmp(argv[3], "write") == 0);
	if (argc == 4 && strcmp(argv[2], "grow") == 0)
		return grow(dir, strtoul(argv[3], NULL, 10));
	if (argc < 2)
		errx(2,
		    "SPOOL [-n COUNT] [-l FILE] [-g] [-1], or hold read|write, "
		    "or grow OCTETS");
	argc--;
	argv++;
	while ((c = getopt(argc, argv, "n:l:g1")) != -1) {
		if (c == 'n')
			d.wanted = strtoul(optarg, NULL, 10);
		else if (c == 'l')
			d.log = optarg;
		else if (c == 'g')
			d.all = true;
		else if (c == '1')
			d.all = d.one = true;
		else
			return 2;
	}
	return drain(&d, dir);
}
