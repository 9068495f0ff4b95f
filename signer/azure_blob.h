/*
 * azure_blob.h - recipes of Azure Blob Storage: a blob in one piece or in
 * blocks
 */
#ifndef AZURE_BLOB_H
#define AZURE_BLOB_H

#include "provider.h"

/* Permissions of a SAS that puts a blob. */
const char *azure_put_permissions(bool no_overwrite);
/* Octets of the largest block that the storage's sv allows. */
int64_t azure_block_max(const struct storage *s);
/* As provider.recipe. */
int azure_recipe(
    const struct storage *s, const struct upload *u, struct recipe *r);

#endif
