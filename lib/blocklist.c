/*
 * blocklist.c - which devices may not send, as the cloud said last
 *
 * What must stay true: the file is whole at any moment (a list cut short would
 * let a blocked device in), and no event loop waits for its syncs.
 */
#include "blocklist.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "log.h"
#include "xalloc.h"

#define SIZE_MAX_OCTETS (4 << 20) /* as an answer of the signer */
#define TEXTS_MAX 200000

struct blocklist {
	char *path;
	pthread_t thread;
	bool started;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t cond;
	char *line; /* to be written; a newer one takes its place */
	bool stop;
};

static int
sync_folder(const char *path)
{
	char *folder = xstrdup(path), *slash = strrchr(folder, '/');
	int fd, rc = 0;

	if (slash != NULL)
		*slash = '\0';
	fd = open(
	    slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(folder);
	return rc;
}

static int
write_file(const char *path, const char *line)
{
	char *aside = xasprintf("%s.new", path);
	size_t n = strlen(line);
	int rc = 0;
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);

	if (fd < 0 || write(fd, line, n) != (ssize_t)n || fsync(fd) != 0 ||
	    rename(aside, path) != 0)
		rc = errno != 0 ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	free(aside);
	return rc != 0 ? rc : sync_folder(path);
}

static void *
writer(void *arg)
{
	struct blocklist *bl = arg;
	int rc;

	pthread_mutex_lock(&bl->mutex);
	for (;;) {
		char *line = bl->line;

		bl->line = NULL;
		if (line == NULL && bl->stop)
			break;
		if (line == NULL) {
			pthread_cond_wait(&bl->cond, &bl->mutex);
			continue;
		}
		pthread_mutex_unlock(&bl->mutex);
		rc = write_file(bl->path, line);
		if (rc != 0)
			log_error("%s: %s: after a restart without WAN what is "
				  "blocked now may not be known",
			    bl->path, strerror(-rc));
		free(line);
		pthread_mutex_lock(&bl->mutex);
	}
	pthread_mutex_unlock(&bl->mutex);
	return NULL;
}

struct blocklist *
blocklist_new(const char *path)
{
	struct blocklist *bl = xcalloc(1, sizeof(*bl));

	bl->path = xstrdup(path);
	pthread_mutex_init(&bl->mutex, NULL);
	pthread_cond_init(&bl->cond, NULL);
	return bl;
}

void
blocklist_free(struct blocklist *bl)
{
	if (bl == NULL)
		return;
	if (bl->started) {
		pthread_mutex_lock(&bl->mutex);
		bl->stop = true;
		pthread_cond_signal(&bl->cond);
		pthread_mutex_unlock(&bl->mutex);
		pthread_join(bl->thread, NULL);
	}
	pthread_mutex_destroy(&bl->mutex);
	pthread_cond_destroy(&bl->cond);
	free(bl->path);
	free(bl);
}

void
blocklist_save(struct blocklist *bl, cJSON *texts)
{
	cJSON *o = cJSON_CreateObject();
	pthread_attr_t at;

	cJSON_AddItemToObject(o, "devices", texts);
	pthread_mutex_lock(&bl->mutex);
	free(bl->line);
	bl->line = json_line(o);
	pthread_cond_signal(&bl->cond);
	pthread_mutex_unlock(&bl->mutex);
	cJSON_Delete(o);
	if (bl->started)
		return;
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, 128 * 1024);
	if (pthread_create(&bl->thread, &at, writer, bl) == 0)
		bl->started = true;
	else
		log_error("%s: no thread to write it", bl->path);
	pthread_attr_destroy(&at);
}

static cJSON *
devices_of(const char *text, size_t n, const char **why)
{
	cJSON *o = json_parse(text, n, SIZE_MAX_OCTETS, why), *list;
	const cJSON *e;

	list = cJSON_DetachItemFromObjectCaseSensitive(o, "devices");
	cJSON_Delete(o);
	if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > TEXTS_MAX) {
		cJSON_Delete(list);
		*why = *why != NULL ? *why : "it has no list of devices";
		return NULL;
	}
	cJSON_ArrayForEach(e, list) if (!cJSON_IsString(e))
	{
		cJSON_Delete(list);
		*why = "a device is no text";
		return NULL;
	}
	return list;
}

cJSON *
blocklist_load(const struct blocklist *bl)
{
	const char *path = bl->path;
	FILE *f = fopen(path, "re");
	const char *why = NULL;
	char *text;
	size_t n;
	cJSON *list;

	if (f == NULL && errno == ENOENT)
		return cJSON_CreateArray();
	if (f == NULL) {
		log_error("%s: %s: who is blocked is not known", path,
		    strerror(errno));
		return NULL;
	}
	text = xmalloc(SIZE_MAX_OCTETS);
	n = fread(text, 1, SIZE_MAX_OCTETS, f);
	fclose(f);
	list = devices_of(text, n, &why);
	free(text);
	if (list == NULL)
		log_error("%s: %s: who is blocked is not known", path, why);
	return list;
}

cJSON *
blocklist_parse(const char *text, size_t n)
{
	const char *why = NULL;

	return devices_of(text, n, &why);
}

bool
blocklist_has(const cJSON *texts, const char *text)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, texts)
	{
		if (strcmp(e->valuestring, text) == 0)
			return true;
	}
	return false;
}
