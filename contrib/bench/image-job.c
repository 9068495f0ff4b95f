/*
 * image-job.c - does to files what an image worker does, and tells how it went
 *
 * image-job progressive|jxl|keep|lossy OUT FILE... : the result of the last
 * file stays in OUT; one line of JSON per file with octets before and after,
 * outcome, step, CPU milliseconds and peak memory of this process.
 */
#include "worker_codec.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char *const outcomes[] = { "smaller", "plain", "no-gain",
	"damaged", "too-large", "unsupported", "differs", "failed" };
static const char *const steps[] = { "none", "jpeg-progressive", "jpeg-jxl",
	"raw-jxl", "zstd", "jpeg-lossy" };

static double
cpu_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int
one(struct worker_job *job, const char *to, const char *from)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct worker_answer a = { 0 };
	struct rusage u;
	struct stat st;
	double ms;

	if (in < 0 || out < 0 || fstat(in, &st) != 0) {
		perror(in < 0 ? from : to);
		return 1;
	}
	job->size = (uint64_t)st.st_size;
	ms = cpu_ms();
	worker_job_run(job, 1 << 30, in, out, &a);
	ms = cpu_ms() - ms;
	getrusage(RUSAGE_SELF, &u);
	printf("{\"file\": \"%s\", \"before\": %" PRIu64 ", \"after\": %" PRIu64
	       ", \"outcome\": \"%s\", \"step\": \"%s\", \"cpu_ms\": %.2f, "
	       "\"peak_kb\": %ld}\n",
	    from, job->size, a.outcome == 0 ? a.out_size : job->size,
	    outcomes[a.outcome], steps[a.step], ms, u.ru_maxrss);
	close(in);
	close(out);
	return 0;
}

int
main(int argc, char **argv)
{
	struct worker_job job = { .quality = 75,
		.max_pixels = 100000000,
		.max_body = 256 << 20 };
	int rc = 0;

	if (argc < 4) {
		fputs("image-job progressive|jxl|keep|lossy OUT FILE...\n",
		    stderr);
		return 64;
	}
	job.jpeg = strcmp(argv[1], "jxl") == 0 ? WORKER_JXL
	    : strcmp(argv[1], "keep") == 0     ? WORKER_KEEP
					       : WORKER_PROGRESSIVE;
	job.lossy = strcmp(argv[1], "lossy") == 0;
	worker_memory_keep();
	for (int i = 3; i < argc && rc == 0; i++)
		rc = one(&job, argv[2], argv[i]);
	return rc;
}
