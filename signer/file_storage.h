/*
 * file_storage.h - the FILE storage's side of HTTP: /v1/files/...
 */
#ifndef FILE_STORAGE_H
#define FILE_STORAGE_H

#include <stdint.h>

struct file_storage;
struct http_request;
struct signer;

/* Uses sg->files, sg->env.file_key and the settings. -errno. */
int file_storage_open(struct signer *sg, struct file_storage **fs_out);
/* After the server and the pool are gone. NULL is accepted. */
void file_storage_close(struct file_storage *fs);
/* Handler of the http server; arg is the signer. */
void file_storage_on_request(struct http_request *rq, void *arg);

#endif
