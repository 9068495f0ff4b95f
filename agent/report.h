/*
 * report.h - tells the signer what became of uploads, and how the gateway is
 */
#ifndef REPORT_H
#define REPORT_H

struct agent;
struct reports;

/* The spool is open. */
struct reports *reports_new(struct agent *a);
/* No more calls; the spool may call back until it is closed. */
void reports_stop(struct reports *r);
/* After the spool is closed. NULL is accepted. */
void reports_free(struct reports *r);

#endif
