/** @file check.h  cmocka and what it needs, and a check that shows the library's message. */
#ifndef PQ_TESTS_SUPPORT_CHECK_H
#define PQ_TESTS_SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>

#include <cmocka.h>

#include <pquant/base.h>

#define PQ_CHECK(ctx, expr)                                                                        \
    do {                                                                                           \
        const pq_status check_st = (expr);                                                         \
        if (check_st != PQ_OK)                                                                     \
            fail_msg("%s: %s: %s", #expr, pq_status_name(check_st), pq_ctx_error(ctx));            \
    } while (0)

/** The larger difference; what is no number is beyond every bound (fmax would pass over it). */
static inline double pq_check_worse(double worst, double difference)
{
    return isfinite(difference) ? fmax(worst, difference) : INFINITY;
}

/** The call must fail so, and its message hold the text. */
#define PQ_CHECK_FAILS(ctx, expr, status, text)                                                    \
    do {                                                                                           \
        const pq_status check_st = (expr);                                                         \
        if (check_st != (status) || !strstr(pq_ctx_error(ctx), (text)))                            \
            fail_msg("%s: %s: %s; expected %s with '%s'", #expr, pq_status_name(check_st),         \
                     check_st == PQ_OK ? "" : pq_ctx_error(ctx), pq_status_name(status), (text));  \
    } while (0)

#endif
