/*
 * aws_sts.c - sessions of a role, by AssumeRole of AWS STS and its imitators
 *
 * A session may do no more than uploading below the scope that it is for: its
 * policy says so, whatever the role itself may do.
 */
#include "aws_sts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "endpoint.h"
#include "json.h"
#include "outgoing.h"
#include "probe.h"
#include "sigv4.h"
#include "storage.h"
#include "xalloc.h"

#define SESSION_SECONDS "3600"

/* What a key must not mean in a policy's pattern ("IAM: policy variables"). */
static void
add_pattern(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (strchr("*?$", *s) != NULL) {
			text_str(t, "${");
			text_char(t, *s);
			text_char(t, '}');
		} else {
			text_char(t, *s);
		}
	}
}

/* No more than uploading below the scope. */
static char *
session_policy(const struct storage *s, const char *scope)
{
	static const char *const actions[] = { "s3:PutObject", "s3:GetObject",
		"s3:AbortMultipartUpload", "s3:DeleteObject" };
	/* Deleting is for the signer's own probe. */
	int actions_n = strcmp(scope, PROBE_SCOPE) == 0 ? 4 : 3;
	const char *partition = s->text[ST_ROLE_ARN] + 4; /* "arn:" */
	cJSON *doc = cJSON_CreateObject(), *st, *list;
	struct text arn = { 0 };
	char *line;

	text_str(&arn, "arn:");
	text_add(&arn, partition, strcspn(partition, ":"));
	text_str(&arn, ":s3:::");
	text_str(&arn, s->text[ST_BUCKET]);
	text_char(&arn, '/');
	add_pattern(&arn, scope);
	text_char(&arn, '*');
	cJSON_AddStringToObject(doc, "Version", "2012-10-17");
	list = cJSON_AddArrayToObject(doc, "Statement");
	st = cJSON_CreateObject();
	cJSON_AddItemToArray(list, st);
	cJSON_AddStringToObject(st, "Effect", "Allow");
	cJSON_AddItemToObject(
	    st, "Action", cJSON_CreateStringArray(actions, actions_n));
	json_add_text(st, "Resource", arn.s);
	line = json_line(doc);
	cJSON_Delete(doc);
	text_fini(&arn);
	return line;
}

static void
session_form(const struct storage *s, const char *scope, struct text *form)
{
	char *policy = session_policy(s, scope);
	char *session = xasprintf("edgehaul-%.50s", s->name);

	text_form(form, "Action", "AssumeRole");
	text_form(form, "Version", "2011-06-15");
	text_form(form, "RoleArn", s->text[ST_ROLE_ARN]);
	text_form(form, "RoleSessionName", session);
	text_form(form, "DurationSeconds", SESSION_SECONDS);
	if (s->text[ST_EXTERNAL_ID] != NULL)
		text_form(form, "ExternalId", s->text[ST_EXTERNAL_ID]);
	text_form(form, "Policy", policy);
	free(policy);
	free(session);
}

/* Send a form to the STS service, signed in the header. */
static void
call(const struct storage *s, const struct endpoint *e, const char *region,
    const struct text *form, bool allow_private, int64_t now_s,
    struct out_answer *a)
{
	struct pair headers[6] = {
		{ "content-type", "application/x-www-form-urlencoded" },
	};
	char *host = endpoint_authority(e, NULL);
	char *path = xasprintf("%s/", e->path), *out[4];
	char *uri = xasprintf("%s://%s%s", e->scheme, host, path);
	struct sigv4_request q = { .method = "POST",
		.scheme = e->scheme,
		.host = host,
		.path = path,
		.headers = headers,
		.headers_n = 1,
		.at = now_s,
		.body = form->s,
		.body_n = form->n };
	struct out_request rq = { .method = "POST",
		.uri = uri,
		.headers = headers,
		.headers_n = 1,
		.body = form->s,
		.body_n = form->n,
		.ca_pem = s->text[ST_CERTIFICATE],
		.allow_private = allow_private,
		.timeout_ms = 10000 };
	struct sigv4_key key;
	size_t n = 0;

	sigv4_key_init(&key, s->text[ST_ACCESS_KEY_ID],
	    s->text[ST_SECRET_ACCESS_KEY], s->text[ST_SESSION_TOKEN], region,
	    "sts", now_s);
	if (sigv4_authorize(&key, &q, out, &n) != 0)
		n = 0;
	sigv4_key_fini(&key);
	for (size_t i = 0; i < n; i++) {
		char *colon = strchr(out[i], ':');

		*colon = '\0';
		headers[rq.headers_n++] = (struct pair){ out[i], colon + 2 };
	}
	outgoing_call(&rq, a);
	for (size_t i = 0; i < n; i++)
		free(out[i]);
	free(host);
	free(path);
	free(uri);
}

int
aws_assume_role(const struct storage *s, const struct endpoint *sts,
    const char *region, const char *scope, bool allow_private, int64_t now_s,
    struct credential *out, struct fetch_error *error)
{
	struct text form = { 0 };
	struct out_answer a;
	char *code, *ends;

	session_form(s, scope, &form);
	call(s, sts, region, &form, allow_private, now_s, &a);
	text_fini(&form);
	out->text[AWS_ACCESS_KEY_ID] = xml_tag(a.body.s, "AccessKeyId");
	out->text[AWS_SECRET_KEY] = xml_tag(a.body.s, "SecretAccessKey");
	out->text[AWS_SESSION_TOKEN] = xml_tag(a.body.s, "SessionToken");
	ends = xml_tag(a.body.s, "Expiration");
	out->expires_s =
	    credential_ends(ends, now_s + atoi(SESSION_SECONDS)) - 60;
	free(ends);
	if (a.fault == OUT_OK && a.status == 200 &&
	    out->text[AWS_ACCESS_KEY_ID] != NULL &&
	    out->text[AWS_SECRET_KEY] != NULL &&
	    out->text[AWS_SESSION_TOKEN] != NULL) {
		out_answer_fini(&a);
		return 0;
	}
	error->unreachable = out_unreachable(&a);
	code = xml_tag(a.body.s, "Code");
	snprintf(error->error, sizeof(error->error),
	    "AssumeRole at %s: %s %.100s", sts->host,
	    a.fault != OUT_OK ? a.error : "refused", code != NULL ? code : "");
	error->hint = a.fault != OUT_OK
	    ? "Check stsEndpoint and that this machine reaches it."
	    : "Check roleArn, externalId and that its trust policy names the "
	      "owner of accessKeyId.";
	free(code);
	credential_drop(out);
	out_answer_fini(&a);
	return -EACCES;
}
