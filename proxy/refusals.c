/*
 * refusals.c - how often the gateway said no, and why
 *
 * Reasons are texts of ours, few and short; a bound holds all the same.
 */
#include "refusals.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

void
refusals_add(struct refusals *r, int status, const char *reason)
{
	struct refusal *k;

	for (unsigned i = 0; i < r->kinds_n; i++) {
		k = &r->kinds[i];
		if (k->status == status && strcmp(k->reason, reason) == 0) {
			k->n++;
			return;
		}
	}
	if (r->kinds_n == REFUSALS_MAX) {
		r->other++;
		return;
	}
	k = &r->kinds[r->kinds_n++];
	k->status = status;
	k->reason = xstrdup(reason);
	k->n = 1;
}

void
refusals_fini(struct refusals *r)
{
	for (unsigned i = 0; i < r->kinds_n; i++)
		free(r->kinds[i].reason);
	r->kinds_n = 0;
}
