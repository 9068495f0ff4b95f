/*
 * signer.c - what concerns all parts of a running signer
 */
#include "signer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "seal.h"
#include "store.h"
#include "text.h"
#include "updates.h"

void
signer_changed(struct signer *sg, const char *tenant)
{
	updates_wake(sg->updates, tenant);
}

/* The key that the state was sealed with is noted in it. */
static int
read_key_id(struct store_txn *t, struct text *out)
{
	return store_get(t, KIND_META, "seal", "key", &out->s, &out->n);
}

int
signer_note_key(struct store_txn *t, void *arg)
{
	struct signer *sg = arg;
	const char *id = seal_key_id(sg->seal);
	struct text before = { 0 };
	int rc = read_key_id(t, &before);

	if (rc == 0 && strcmp(before.s, id) != 0)
		log_error("seal.key is another one than the state was sealed "
			  "with: restore it, or set all storages anew");
	if (rc == -ENOENT) {
		rc = store_put(t, KIND_META, "seal", "key", id, strlen(id));
		text_str(&before, id);
	}
	free(sg->sealed_by);
	sg->sealed_by = text_steal(&before);
	return rc;
}

int
signer_check_key(const struct signer *sg, struct store_txn *t)
{
	struct text now = { 0 };
	int rc = read_key_id(t, &now);

	if (rc == 0 && strcmp(now.s, sg->sealed_by) != 0)
		rc = -EKEYREVOKED;
	text_fini(&now);
	return rc;
}
