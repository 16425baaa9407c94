/* LD_PRELOAD: a wall clock that a file sets.
 *
 * JEPSEN_LIKE_CLOCK names a file of three signed 64-bit numbers: nanoseconds to add to
 * CLOCK_REALTIME, the instant of CLOCK_MONOTONIC since which it also drifts, and that drift in
 * nanoseconds a second.  It is mapped, so that a change is seen at once.  Monotonic clocks are let
 * alone.  Whoever writes it stores a number at a time: the sum of old and new is seen for less than
 * a microsecond.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *set;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("JEPSEN_LIKE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, 3 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) set = found;
}

static int64_t now(clockid_t id) {
    struct timespec at;
    syscall(SYS_clock_gettime, id, &at);
    return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

static int64_t wall(void) {
    int64_t at = now(CLOCK_REALTIME);
    if (!set) return at;
    int64_t passed = set[2] ? now(CLOCK_MONOTONIC) - set[1] : 0;
    return at + set[0] + (int64_t)((double)passed * (double)set[2] / 1e9);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    if (!set || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
        return (int)syscall(SYS_clock_gettime, id, at);
    int64_t ns = wall();
    at->tv_sec = ns / 1000000000;
    at->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    int64_t ns = wall();
    at->tv_sec = ns / 1000000000;
    at->tv_usec = ns % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *at) {
    time_t seconds = wall() / 1000000000;
    if (at) *at = seconds;
    return seconds;
}
