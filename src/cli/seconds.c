/* The clock, and durations as users write them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool cli_parse_seconds(const char *text, double *seconds)
{
    char *end;
    const double v = strtod(text, &end);
    const double unit = !*end || strcmp(end, "s") == 0 ? 1
                        : strcmp(end, "m") == 0        ? 60
                        : strcmp(end, "h") == 0        ? 3600
                                                       : 0;
    *seconds = v * unit;
    return end != text && *seconds > 0 && isfinite(*seconds);
}
