/* How long each of many things took, and the percentiles of that. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct times {
    double *seconds;
    long count, room;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void add_times(struct times *to, const double *seconds, long count)
{
    if (to->count + count > to->room) {
        to->room = (to->count + count) * 2 + 1024;
        to->seconds = realloc(to->seconds, to->room * sizeof *to->seconds);
        if (!to->seconds) {
            perror("realloc");
            exit(1);
        }
    }
    memcpy(to->seconds + to->count, seconds, count * sizeof *seconds);
    to->count += count;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Print milliseconds at three percentiles, 0 where nothing was timed. */
static void print_percentiles(struct times *all)
{
    static const int percentiles[] = {50, 95, 99};
    qsort(all->seconds, all->count, sizeof *all->seconds, by_time);
    for (int i = 0; i < 3; i++)
        printf(" p%d=%.4f", percentiles[i], all->count ? all->seconds[all->count * percentiles[i] / 100] * 1e3 : 0.0);
}
