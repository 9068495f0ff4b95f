/*
 * upload_room.c - room for an upload, or others give way
 *
 * What must stay true: no more uploads go than the one that comes needs, and
 * none for one that the spool could never hold; while others give way the body
 * is not read.
 */
#include "upload_private.h"

#include <errno.h>

#include "gateway_conf.h"
#include "http_server.h"
#include "proxy.h"

#define EVICT_TRIES 256 /* of at most 256 uploads each */

bool
upload_may_evict(struct upload *up, int rc)
{
	return rc == -ENOSPC &&
	    up->px->conf->when_full == WHEN_FULL_DROP_OLDEST &&
	    up->evictions++ < EVICT_TRIES;
}

void
upload_evict_no_more(struct upload *up)
{
	up->evictions = EVICT_TRIES;
}

static void
on_more_room(int rc, void *arg)
{
	struct upload *up = arg;

	if (!upload_came_back(up) || up->refused)
		return;
	up->evicting = false;
	if (rc != 0)
		upload_evict_no_more(up);
	upload_ask_room(up);
	if (!up->evicting && !up->refused && up->behind == 0)
		http_request_resume(up->rq);
}

void
upload_ask_room(struct upload *up)
{
	const char *why;
	int rc = spool_room(up->px->spool, ROOM_EACH, &why);

	if (rc == 0) {
		up->evictions = 0;
	} else if (upload_may_evict(up, rc)) {
		up->evicting = true;
		up->waiting++;
		spool_make_room(up->px->spool, ROOM_EACH, on_more_room, up);
	} else {
		upload_stop_full(up, rc, why);
	}
}
