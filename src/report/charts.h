/** @file charts.h  Axes and marks of SVG charts. Coordinates are those of the viewBox. */
#ifndef PQ_REPORT_CHARTS_H
#define PQ_REPORT_CHARTS_H

#include "report/report.h"

/** A linear axis with round ticks: lo .. hi lie at from .. to. */
typedef struct pq_axis {
    double lo, hi, from, to, step;
    int decimals;
} pq_axis;

/** About `ticks` steps of 1, 2 or 5 times a power of ten; an end other than 0 gets some air. */
pq_axis pq_axis_make(double lo, double hi, double from, double to, int ticks);
double pq_axis_at(const pq_axis *a, double v);

/** lo .. hi shall hold v too, if it is finite. */
void pq_widen(double *lo, double *hi, double v);
/** Grid lines from x0 to x1 with their numbers left of them; likewise downwards. */
void pq_page_y_grid(pq_page *p, const pq_axis *y, double x0, double x1, bool sign);
void pq_page_x_grid(pq_page *p, const pq_axis *x, double y0, double y1);

/** Section with its heading; close with pq_page_raw(p, "</section>"). */
void pq_page_section(pq_page *p, const char *id, const char *title);
/** figure, scrolling box and svg; label is what a screen reader says. class_name: "" or "narrow".
 */
void pq_page_chart(pq_page *p, int w, int h, const char *class_name, const char *label);
/** Their ends, with a caption (may be NULL). */
void pq_page_chart_end(pq_page *p, const char *caption);
/** details with a table's head; heads are "text" or "#text" for numbers, NULL ends them. */
void pq_page_table(pq_page *p, const char *summary, const char *const *head);
void pq_page_table_end(pq_page *p);
/** <td class="n">, and a number times `factor` in it. */
void pq_page_cell(pq_page *p, double v, int decimals, bool sign);

#endif
