/*
 * upload.h - one entry of POST /v1/sign: what is asked for, or why it is
 * refused
 */
#ifndef UPLOAD_H
#define UPLOAD_H

#include <cjson/cJSON.h>

#include "recipe.h"

#define UPLOAD_METADATA_MAX 16

/* An upload that cannot be signed: what the agent is told. */
struct refusal {
	int status;
	const char *act; /* "do" */
	char *title;
	const char *hint;
	const char *field; /* of the entry, that is at fault; NULL: none is */
	int retry_after;
};

/* Fill f; -ECANCELED. fmt and arg make its title, one after the other. */
int refuse(struct refusal *f, int status, const char *act, const char *hint,
    const char *fmt, const char *arg);
/*
 * Check an entry. 0: u, its metadata (room for UPLOAD_METADATA_MAX) and the
 * name of the storage are borrowed from v; key is without any prefix.
 * -ECANCELED: f tells why not.
 */
int upload_take(const cJSON *v, struct upload *u, struct pair *metadata,
    const char **storage, struct refusal *f);

#endif
