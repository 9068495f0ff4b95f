/*
 * access.h - passwords of cameras
 *
 * A camera whose [camera] section has user and password_file must give them:
 * HTTP Basic (RFC 7617) or Digest (RFC 7616: SHA-256, and MD5 for old ones).
 */
#ifndef ACCESS_H
#define ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access;
struct camera_conf;
struct gateway_conf;
struct http_request;

/* Reads the password files (at start and reload: it waits for the disk). One
 * that cannot be read is logged; its camera is refused until it can be. */
struct access *access_new(const struct gateway_conf *conf);
void access_free(struct access *a);

/*
 * May this request act as the camera? true, or false with the challenges to
 * send as WWW-Authenticate put on the request. now_ms by clock_ms().
 */
bool access_check(struct access *a, const struct camera_conf *cam,
    struct http_request *rq, int64_t now_ms);

/* Does an Authorization value fit? stale: all but the nonce's age does, or it
 * was here before. For tests; nonces are made by access_nonce(). */
bool access_fits(struct access *a, const char *user, const char *password,
    const char *method, const char *target, const char *authorization,
    int64_t now_ms, bool *stale_out);
void access_nonce(struct access *a, int64_t now_ms, char out[49]);
/* The password in a file, for free(); NULL: it cannot be read, is empty or too
 * long, which is logged. */
char *access_read_password(const char *path, const char *camera);

#endif
