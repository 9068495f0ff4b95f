/*
 * storage_world.h - documents of storages, right and wrong, for their tests
 */
#ifndef STORAGE_WORLD_H
#define STORAGE_WORLD_H

#include <cjson/cJSON.h>

#include "storage.h"

#define KEYS "\"accessKeyId\":\"AK\",\"secretAccessKey\":\"SK\""
#define S3 "{\"type\":\"S3\",\"bucket\":\"bkt\"," KEYS
#define ACCOUNT "AccountName=acc;AccountKey=c2VjcmV0;"
#define AZ(more) "{\"type\":\"AZURE\",\"connectionString\":\"" ACCOUNT more "\""

extern struct sign_env env;

cJSON *json(const char *s);
/* The storage of a document that is right. */
struct storage *good(const char *text);
/* A document that is wrong at this pointer. */
void bad(const char *text, const char *pointer);
/* The first of its hosts, and how many warnings it comes with. */
void has_host(const char *text, const char *host);
void has_warnings(const char *text, int n);

#endif
