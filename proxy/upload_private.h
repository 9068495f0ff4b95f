/*
 * upload_private.h - what the files of an upload share: upload.c, upload_form.c
 * (files in a form), upload_name.c (names that wait), upload_room.c (room, or
 * others give way), admission.c (what is refused by the head alone)
 */
#ifndef UPLOAD_PRIVATE_H
#define UPLOAD_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "condition.h"
#include "naming.h"
#include "spool.h"

struct event;
struct form;
struct form_events;
struct http_request;
struct proxy;

#define TYPE_MAX 200
#define FILES_MAX 32 /* of a form */

/* One file of an upload: the body, or a part of a form. */
struct file {
	struct upload *up;
	struct spool_upload *u; /* NULL: committed or dropped */
	char *name, *type;      /* of a form's part; NULL: of the request */
	int rc;
	bool repeat, behind; /* behind: on_room() is to come */
	char id[SPOOL_ID_LEN + 1];
	uint8_t sha256[32];
	uint64_t size;
};

enum name_rule { NAME_KEEP, NAME_REPLACE, NAME_REJECT };

struct upload {
	struct proxy *px;
	struct http_request *rq; /* NULL: over */
	unsigned waiting;        /* callbacks to come */
	struct naming who;
	char *type;
	struct form *form;          /* NULL: the body is the file */
	struct checksum_run *sums;  /* of a whole form; NULL: none announced */
	struct file **files, *into; /* into: takes the octets */
	unsigned files_n, commits, behind;   /* behind: of its files */
	struct event *nudge;                 /* while behind; or NULL */
	uint64_t size, received, max, asked; /* size: UINT64_MAX unknown */
	int64_t repeat_window_ms;
	unsigned evictions;
	bool evicting; /* in the midst of its body */
	int64_t t0;
	bool refused;
	enum name_rule rule;
	struct condition condition;
	bool claims; /* stands among px->claims */
	LIST_ENTRY(upload) claim;
	unsigned asked_n; /* of the names of its files */
	void (*then)(struct upload *up);
};

/* Refuse it; what was written of it goes. */
void upload_stop(
    struct upload *up, int status, const char *error, const char *hint);
/* The same for what a reservation was refused with. */
void upload_stop_full(struct upload *up, int rc, const char *why);
/* A file that will take octets, up->into from now on; 0 or the error of the
 * reservation. name and type: NULL if it is the body itself. */
int upload_file_add(struct upload *up, uint64_t size, const char *name,
    const char *type, const char **why_out);
/* Octets for it; up->behind tells whether it can take more just now. */
void upload_file_take(struct file *f, const char *p, size_t n);

const char *upload_file_name(const struct file *f);
/* A callback has come. false: nobody is there any more, and up is gone. */
bool upload_came_back(struct upload *up);

/* What is to be done if its name waits, by head and settings. false: it was
 * refused. */
bool upload_name_rule(struct upload *up);
/* Go on with `then` unless the name waits already: by the head ... */
void upload_name_first(struct upload *up, void (*then)(struct upload *up));
/* ... and when all of it is here. */
void upload_name_last(struct upload *up, void (*then)(struct upload *up));
/* It was kept: those that it replaces go. */
void upload_name_accepted(struct upload *up, const struct spool_item *it);
void upload_name_release(struct upload *up);

#define ROOM_EACH (1 << 20) /* ask again after so many octets */
/* The spool said rc: may others give way (once more)? */
bool upload_may_evict(struct upload *up, int rc);
/* There is nothing left that could. */
void upload_evict_no_more(struct upload *up);
/* Is there room for the next octets of what was not reserved (a form, a body of
 * unknown length)? Refused if not; or up->evicting until there is. */
void upload_ask_room(struct upload *up);

/* Parts of a form as files; arg is the upload. */
extern const struct form_events upload_form_events;

/* false: it was refused. */
bool admission_check(struct upload *up);

#endif
