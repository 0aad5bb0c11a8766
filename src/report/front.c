/* Accuracy against latency: the three precisions, and the front that was searched. */
#include <string.h>

#include "report/charts.h"

enum { FRONT_W = 680, FRONT_H = 390, FRONT_TOP = 36, MOST_POINTS = 3000 };

/* What lies far below the interesting part is drawn at the lower edge: a network that loses 13
 * points in INT8 must not flatten the tenths that the choice is about. */
static double lower_edge(const cJSON *doc, double least)
{
    const cJSON *row = pq_field_find(pq_field(doc, "precisions"), "name", "partial");
    const double drop = 100 * pq_field_number(row, "drop");
    const double high = 100 * pq_field_number(row, "drop_high");
    double scale = pq_field_number(pq_field(doc, "run"), "max_drop");
    if (!(scale > 0.3)) scale = 0.3;
    if (isfinite(drop)) scale = fmax(scale, drop);
    if (isfinite(high)) scale = fmax(scale, 0.5 * high);
    return least < -8 * scale ? -5 * scale : least;
}

/* Of "front" and "precisions" together: ms, and points of AP against full precision. */
static bool front_limits(const cJSON *doc, double x[2], double y[2])
{
    static const char *const key[2] = {"front", "precisions"};
    const cJSON *v;
    int n = 0;
    x[0] = y[0] = INFINITY;
    x[1] = y[1] = -INFINITY;
    for (int k = 0; k < 2; k++) cJSON_ArrayForEach(v, pq_field(doc, key[k]))
        {
            const double ms = pq_field_number(v, "ms"), drop = pq_field_number(v, "drop");
            if (!isfinite(ms) || !isfinite(drop)) continue;
            n++;
            pq_widen(&x[0], &x[1], ms);
            pq_widen(&y[0], &y[1], -100 * drop);
            pq_widen(&y[0], &y[1], -100 * pq_field_number(v, "drop_low"));
            pq_widen(&y[0], &y[1], -100 * pq_field_number(v, "drop_high"));
        }
    const double budget = pq_field_number(pq_field(doc, "run"), "max_drop");
    pq_widen(&y[0], &y[1], -budget);
    pq_widen(&y[0], &y[1], 0);
    return n >= 2;
}

static void point_title(pq_page *p, const cJSON *v, const char *name, const char *metric)
{
    const double low = pq_field_number(v, "drop_low"), high = pq_field_number(v, "drop_high");
    pq_page_raw(p, "<title>");
    pq_page_text(p, name);
    pq_page_raw(p, "\n");
    pq_page_number(p, pq_field_number(v, "ms"), 3, false);
    pq_page_raw(p, " ms, ");
    pq_page_number(p, -100 * pq_field_number(v, "drop"), 2, true);
    pq_page_f(p, " points of %s", metric);
    if (isfinite(low) && isfinite(high)) {
        pq_page_raw(p, " [");
        pq_page_number(p, -100 * high, 2, true);
        pq_page_raw(p, ", ");
        pq_page_number(p, -100 * low, 2, true);
        pq_page_raw(p, "]");
    }
    pq_page_raw(p, "</title>");
}

static void front_points(pq_page *p, const cJSON *doc, const pq_axis *x, const pq_axis *y)
{
    const cJSON *v;
    int n = 0;
    cJSON_ArrayForEach(v, pq_field(doc, "front"))
    {
        const double ms = pq_field_number(v, "ms"), drop = pq_field_number(v, "drop");
        const bool predicted = pq_field_true(v, "predicted"), chosen = pq_field_true(v, "chosen");
        if (!isfinite(ms) || !isfinite(drop) || n++ == MOST_POINTS) continue;
        if (-100 * drop < y->lo) continue; /* in the table */
        const double cx = pq_axis_at(x, ms), cy = pq_axis_at(y, -100 * drop);
        if (chosen)
            pq_page_f(p, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"10\"/>", cx, cy);
        pq_page_f(p, "<circle data-mark class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\">",
                  predicted ? "hollow" : "b8", cx, cy, chosen ? "5.5" : "4");
        point_title(p, v,
                    chosen      ? "Chosen point of the front"
                    : predicted ? "Predicted"
                                : "Measured",
                    pq_report_metric(doc));
        pq_page_raw(p, "</circle>\n");
    }
}

static void whisker(pq_page *p, const cJSON *v, const pq_axis *y, double cx)
{
    const double low = pq_field_number(v, "drop_low"), high = pq_field_number(v, "drop_high");
    if (!isfinite(low) || !isfinite(high)) return;
    const double top = pq_axis_at(y, -100 * low), end = pq_axis_at(y, fmax(-100 * high, y->lo));
    pq_page_f(p, "<path class=\"whisker\" d=\"M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8\"/>", cx, top, end,
              cx - 4, top);
}

/* A row of the table; one below the chart is an arrow at its edge. */
static void front_row(pq_page *p, const cJSON *v, const char *name, const pq_axis *x,
                      const pq_axis *y, const char *metric)
{
    const char *title = pq_report_row_title(name);
    const double change = -100 * pq_field_number(v, "drop");
    const bool partial = strcmp(name, "partial") == 0, below = change < y->lo;
    const char *kind = strcmp(name, "fp32") == 0 ? "bf" : partial ? "b8" : "bx";
    const double cx = pq_axis_at(x, pq_field_number(v, "ms"));
    const double cy = pq_axis_at(y, fmax(change, y->lo));
    if (below) {
        pq_page_f(p, "<path data-mark class=\"%s\" d=\"M%.1f %.1fh14l-7 12z\">", kind, cx - 7,
                  cy - 12);
    } else {
        whisker(p, v, y, cx);
        if (partial)
            pq_page_f(p, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"10\"/>", cx, cy);
        pq_page_f(p, "<circle data-mark class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"6\">", kind, cx,
                  cy);
    }
    point_title(p, v, title, metric);
    const bool left = cx > FRONT_W - 150;
    pq_page_f(p, "</%s><text class=\"lab\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
              below ? "path" : "circle", cx + (left ? -14 : 14),
              partial ? cy - 9
              : below ? cy - 6
                      : cy + 17,
              left ? "end" : "start");
    pq_page_text(p, title);
    if (below) {
        pq_page_raw(p, ": ");
        pq_page_number(p, change, 1, true);
    }
    pq_page_raw(p, "</text>\n");
}

static void front_rows(pq_page *p, const cJSON *doc, const pq_axis *x, const pq_axis *y)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, pq_field(doc, "precisions"))
    {
        const char *name = pq_field_text(v, "name");
        if (name && isfinite(pq_field_number(v, "ms")) && isfinite(pq_field_number(v, "drop")))
            front_row(p, v, name, x, y, pq_report_metric(doc));
    }
}

static void table_row(pq_page *p, const cJSON *v, const char *title, bool chosen, double int8)
{
    pq_page_f(p, "<tr%s><td>", chosen ? " class=\"chosen\"" : "");
    pq_page_text(p, title);
    pq_page_raw(p, "</td>");
    pq_page_cell(p, pq_field_number(v, "ms"), 3, false);
    pq_page_cell(p, -100 * pq_field_number(v, "drop"), 2, true);
    pq_page_cell(p, int8, 0, false);
    pq_page_raw(p, "</tr>\n");
}

static void front_table(pq_page *p, const cJSON *doc)
{
    static const char *const head[] = {"Point", "#Latency, ms", "#Change, points",
                                       "#Operators in INT8", NULL};
    const double total = pq_field_number(pq_field(doc, "verdict"), "operators");
    const cJSON *v;
    int n = 0;
    pq_page_table(p, "Table of the points", head);
    cJSON_ArrayForEach(v, pq_field(doc, "precisions"))
    {
        const char *name = pq_field_text(v, "name");
        table_row(p, v, pq_report_row_title(name), name && strcmp(name, "partial") == 0,
                  total - pq_field_number(v, "kept"));
    }
    cJSON_ArrayForEach(v, pq_field(doc, "front"))
    {
        const char *bits = pq_field_text(v, "int8");
        const bool chosen = pq_field_true(v, "chosen");
        double on = 0;
        if (n++ == MOST_POINTS) break;
        for (const char *b = bits; b && *b; b++) on += *b == '1';
        table_row(p, v,
                  chosen                          ? "chosen"
                  : pq_field_true(v, "predicted") ? "predicted"
                                                  : "measured",
                  chosen, bits ? on : (double)NAN);
    }
    pq_page_table_end(p);
}

static bool any_predicted(const cJSON *doc)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, pq_field(doc, "front")) if (pq_field_true(v, "predicted")) return true;
    return false;
}

/* How far predicted times can be trusted. */
static void latency_note(pq_page *p, const cJSON *m)
{
    const double plans = pq_field_number(m, "plans"), error = pq_field_number(m, "median_error");
    if (!(plans > 0) || !isfinite(error)) return;
    pq_page_f(p,
              "<p class=\"note\">Times were searched with a model of latency, fitted to %.0f "
              "measured plans: ",
              plans);
    if (error > 0)
        pq_page_f(p, "off by %.1f&nbsp;%% (median) on plans that it had not seen", 100 * error);
    else
        pq_page_raw(p, "too few to tell how far it is off");
    if (pq_field_number(m, "error_95") > 0)
        pq_page_f(p, ", by %.1f&nbsp;%% at most in 95 of 100",
                  100 * pq_field_number(m, "error_95"));
    pq_page_raw(p, ".</p>\n");
}

void pq_page_front(pq_page *p, const cJSON *doc)
{
    double xs[2], ys[2];
    if (!front_limits(doc, xs, ys)) return;
    const double room = 0.06 * (xs[1] - xs[0]) + 0.01 * xs[1];
    const pq_axis x = pq_axis_make(fmax(0, xs[0] - room), xs[1] + room, 62, FRONT_W - 16, 7);
    const pq_axis y = pq_axis_make(lower_edge(doc, ys[0]), ys[1], FRONT_H - 48, FRONT_TOP, 6);
    const double budget = pq_field_number(pq_field(doc, "run"), "max_drop");
    const double latency = pq_field_number(pq_field(doc, "run"), "max_latency_ms");
    pq_page_section(p, "front", "Accuracy against latency");
    pq_page_f(p,
              "<p>Each point is an assignment of precisions. Up is more accurate, left is faster; "
              "whiskers are 95&nbsp;%% intervals.%s</p>\n",
              any_predicted(doc)
                  ? " Hollow points are predicted, filled ones measured on the engine."
                  : "");
    latency_note(p, pq_field(doc, "latency_model"));
    pq_page_chart(p, FRONT_W, FRONT_H, "narrow",
                  "Scatter plot of accuracy against latency; the figures are in the tables");
    pq_page_x_grid(p, &x, FRONT_TOP, FRONT_H - 48);
    pq_page_y_grid(p, &y, 62, FRONT_W - 16, true);
    pq_page_f(p,
              "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">latency, ms</text>"
              "<text x=\"4\" y=\"16\">points of %s against full precision</text>\n",
              (FRONT_W + 46) / 2, FRONT_H - 10, pq_report_metric(doc));
    if (isfinite(budget)) {
        const double at = pq_axis_at(&y, -budget);
        pq_page_f(p,
                  "<path class=\"budget\" d=\"M62 %.1fH%d\"/><text class=\"warn\" x=\"68\" "
                  "y=\"%.1f\">budget</text>\n",
                  at, FRONT_W - 16, at + 15);
    }
    if (latency >= x.lo && latency <= x.hi)
        pq_page_f(p, "<path class=\"budget\" d=\"M%.1f 36V%d\"/>\n", pq_axis_at(&x, latency),
                  FRONT_H - 48);
    front_points(p, doc, &x, &y);
    front_rows(p, doc, &x, &y);
    pq_page_chart_end(p, NULL);
    front_table(p, doc);
    pq_page_raw(p, "</section>\n");
}
