/*
 * publisher_keys.c - whose manifests a gateway trusts
 */
#include "publisher_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xalloc.h"

#define FILE_MAX 4096

static int
read_file(const char *path, char buf[FILE_MAX + 1], char **why_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	ssize_t n = fd >= 0 ? read(fd, buf, FILE_MAX) : -1;

	if (n < 0) {
		rc = -errno;
		*why_out = errno == ENOENT
		    ? xasprintf("%s is not there, and is no key; save the "
				"publisher's .pub file under this name",
			  path)
		    : xasprintf("%s cannot be read: %s", path, strerror(errno));
	} else {
		buf[n] = '\0';
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

static int
load_file(const char *path, struct minisign_public *key, char **why_out)
{
	char text[FILE_MAX + 1];
	int rc = read_file(path, text, why_out);

	if (rc != 0)
		return rc;
	if (minisign_public_parse(text, key) == 0)
		return 0;
	*why_out = strstr(text, "secret key") != NULL
	    ? xasprintf("%s is a secret key: it belongs to the publisher "
			"alone; the .pub file beside it goes here",
		  path)
	    : xasprintf("%s is no public key of minisign; it has two lines, "
			"the second begins with RW",
		  path);
	return -EINVAL;
}

int
publisher_keys_load(const char *list,
    struct minisign_public keys[PUBLISHER_KEYS_MAX], size_t *n_out,
    char **why_out)
{
	char *copy = xstrdup(list != NULL ? list : ""), *save = NULL;
	size_t n = 0;
	int rc = 0;

	for (char *s = strtok_r(copy, " ", &save); s != NULL && rc == 0;
	     s = strtok_r(NULL, " ", &save)) {
		if (n == PUBLISHER_KEYS_MAX) {
			*why_out =
			    xasprintf("more than %d keys", PUBLISHER_KEYS_MAX);
			rc = -E2BIG;
		} else if (minisign_public_parse(s, &keys[n]) != 0) {
			rc = load_file(s, &keys[n], why_out);
		}
		n++;
	}
	free(copy);
	if (rc == 0)
		*n_out = n;
	return rc;
}
