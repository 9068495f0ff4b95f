/*
 * naming.h - which device sent an upload, and what it is called
 */
#ifndef NAMING_H
#define NAMING_H

#include <stdbool.h>

struct gateway_conf;

/* Texts are the caller's, freed by naming_fini(). */
struct naming {
	char *device, *name;
	const struct camera_conf *camera; /* of conf, or NULL */
	bool by_address; /* camera was found by the address, not by a name */
};

/*
 * From the request's target as sent, its path as decoded, the client's address
 * and the settings. 0, or the status to refuse with: 400, 403; *error_out and
 * *hint_out are static texts for people.
 * name_optional: a path without a file name at its end is taken (a form names
 * its files); the name is "" then.
 */
int naming_make(const struct gateway_conf *conf, const char *target,
    const char *path, const char *address, bool name_optional,
    struct naming *n_out, const char **error_out, const char **hint_out);
void naming_fini(struct naming *n);

#endif
