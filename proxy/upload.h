/*
 * upload.h - a PUT or POST on its way into the spool
 */
#ifndef UPLOAD_H
#define UPLOAD_H

struct http_request;
struct proxy;

/* The route's handler; arg is the struct proxy. */
void on_upload(struct http_request *rq, void *arg);
/* Refuse with one JSON line, the same text in the log, Retry-After on 5xx that
 * pass. */
void upload_refuse(struct proxy *px, struct http_request *rq, int status,
    const char *error, const char *hint);

#endif
