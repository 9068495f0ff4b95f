/*
 * aws_sts.h - sessions of a role, by AssumeRole of AWS STS and its imitators
 *
 * "AssumeRole", AWS Security Token Service API reference.
 */
#ifndef AWS_STS_H
#define AWS_STS_H

#include <stdbool.h>
#include <stdint.h>

struct credential;
struct endpoint;
struct fetch_error;
struct storage;

/* Texts of the credential. */
enum { AWS_ACCESS_KEY_ID, AWS_SECRET_KEY, AWS_SESSION_TOKEN };

/* As provider.fetch, of the service at sts. */
int aws_assume_role(const struct storage *s, const struct endpoint *sts,
    const char *region, const char *scope, bool allow_private, int64_t now_s,
    struct credential *out, struct fetch_error *error);

#endif
