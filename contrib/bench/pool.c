/*
 * pool.c - the plain way to a durable spool, to measure ours against
 *
 * pool FOLDER THREADS SIZE SECONDS : each thread writes a temporary file of
 * SIZE random octets, fdatasync, rename, fsync of the folder, then waits for a
 * synced LMDB commit of its record (300 octets by number, and its number by a
 * random key of 16 octets); whoever comes first commits for all that wait.
 * Prints objects per second. Build: gcc -O2 pool.c -llmdb -lpthread
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>

#define FOLDERS 16
#define MUST(x)                                                          \
	do {                                                             \
		if ((x) < 0) {                                           \
			fprintf(stderr, "%s: %s\n", #x, strerror(errno)); \
			exit(1);                                         \
		}                                                        \
	} while (0)
#define MUST_DB(x)                                                       \
	do {                                                             \
		int rc_ = (x);                                           \
		if (rc_ != 0) {                                          \
			fprintf(stderr, "%s: %s\n", #x, mdb_strerror(rc_)); \
			exit(1);                                         \
		}                                                        \
	} while (0)

static size_t size;
static char *body;
static int folders[FOLDERS];
static double end;
static MDB_env *env;
static MDB_dbi by_number, by_name;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* what follows */
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static uint64_t next_seq, done, waiting[4096], turn = 1, settled;
static unsigned waiting_n;
static int committing;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static void
commit(const uint64_t *seqs, unsigned n)
{
	char record[300];
	MDB_txn *txn;

	memset(record, 'm', sizeof(record));
	MUST_DB(mdb_txn_begin(env, NULL, 0, &txn));
	for (unsigned i = 0; i < n; i++) {
		uint64_t be = htobe64(seqs[i]);
		uint64_t name[2] = { mix(seqs[i]), mix(seqs[i] + 77) };
		MDB_val k = { 8, &be }, v = { sizeof(record), record };
		MDB_val nk = { 16, name }, nv = { 8, &be };

		MUST_DB(mdb_put(txn, by_number, &k, &v, 0));
		MUST_DB(mdb_put(txn, by_name, &nk, &nv, 0));
	}
	MUST_DB(mdb_txn_commit(txn));
}

static void
commit_with_others(uint64_t seq)
{
	uint64_t mine, seqs[4096];
	unsigned n;

	pthread_mutex_lock(&mutex);
	waiting[waiting_n++] = seq;
	mine = turn;
	while (settled < mine) {
		uint64_t now_turn;

		if (committing) {
			pthread_cond_wait(&cond, &mutex);
			continue;
		}
		committing = 1;
		n = waiting_n;
		memcpy(seqs, waiting, n * sizeof(*seqs));
		waiting_n = 0;
		now_turn = turn++;
		pthread_mutex_unlock(&mutex);
		commit(seqs, n);
		pthread_mutex_lock(&mutex);
		settled = now_turn;
		committing = 0;
		pthread_cond_broadcast(&cond);
	}
	done++;
	pthread_mutex_unlock(&mutex);
}

static void
one(uint64_t seq)
{
	int folder = folders[seq % FOLDERS], fd;
	char name[24], part[32];
	size_t at = 0;

	snprintf(name, sizeof(name), "%016llx", (unsigned long long)seq);
	snprintf(part, sizeof(part), "%s.part", name);
	MUST(fd = openat(folder, part, O_CREAT | O_EXCL | O_WRONLY, 0644));
	while (at < size) {
		size_t n = size - at < 65536 ? size - at : 65536;
		ssize_t k;

		MUST(k = write(fd, body + at, n));
		at += (size_t)k;
	}
	MUST(fdatasync(fd));
	MUST(renameat(folder, part, folder, name));
	MUST(fsync(folder));
	close(fd);
	commit_with_others(seq);
}

static void *
worker(void *arg)
{
	while (now() < end) {
		uint64_t seq;

		pthread_mutex_lock(&mutex);
		seq = next_seq++;
		pthread_mutex_unlock(&mutex);
		one(seq);
	}
	return NULL;
}

static void
open_all(const char *dir)
{
	MDB_txn *txn;
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/index", dir);
	MUST(mkdir(path, 0755));
	MUST_DB(mdb_env_create(&env));
	MUST_DB(mdb_env_set_mapsize(env, 1 << 30));
	MUST_DB(mdb_env_set_maxdbs(env, 4));
	MUST_DB(mdb_env_open(env, path, MDB_NOTLS, 0644));
	MUST_DB(mdb_txn_begin(env, NULL, 0, &txn));
	MUST_DB(mdb_dbi_open(txn, "number", MDB_CREATE, &by_number));
	MUST_DB(mdb_dbi_open(txn, "name", MDB_CREATE, &by_name));
	MUST_DB(mdb_txn_commit(txn));
	for (int i = 0; i < FOLDERS; i++) {
		snprintf(path, sizeof(path), "%s/%02d", dir, i);
		MUST(mkdir(path, 0755));
		MUST(folders[i] = open(path, O_RDONLY | O_DIRECTORY));
	}
	body = malloc(size);
	MUST(fd = open("/dev/urandom", O_RDONLY));
	for (size_t at = 0; at < size;) {
		ssize_t k;

		MUST(k = read(fd, body + at, size - at));
		at += (size_t)k;
	}
	close(fd);
}

int
main(int argc, char **argv)
{
	pthread_t threads[256];
	int n = argc == 5 ? atoi(argv[2]) : 0;
	double t0;

	if (n < 1 || n > 256) {
		fputs("pool FOLDER THREADS SIZE SECONDS\n", stderr);
		return 64;
	}
	size = (size_t)atoll(argv[3]);
	open_all(argv[1]);
	t0 = now();
	end = t0 + atof(argv[4]);
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, worker, NULL);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("%.1f\n", (double)done / (now() - t0));
	return 0;
}
