/** @file parts.h  Corrections without a part of them. */
#ifndef PQ_CORRECT_PARTS_H
#define PQ_CORRECT_PARTS_H

#include <pquant/correct.h>

/** Without equalisation; only sound before anything was built upon it. */
void pq_corrections_drop_equal(pq_corrections *c);
/** Without re-encoding: the ranges of its values must go back too. Only sound without fixes. */
void pq_corrections_drop_encodings(pq_corrections *c);
void pq_corrections_drop_fixes(pq_corrections *c);

#endif
