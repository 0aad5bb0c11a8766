/* Before and after: accuracy by size and class, shift of scores. */
#include <stdlib.h>
#include <string.h>

#include "report/charts.h"

enum { PAIR_W = 580, PAIR_ROW = 22, PAIR_LEFT = 164, PAIR_RIGHT = 186 };

static void pair_row(pq_page *p, const cJSON *v, const pq_axis *x, double y)
{
    const double before = 100 * pq_field_number(v, "before");
    const double after = 100 * pq_field_number(v, "after");
    const double x0 = pq_axis_at(x, before), x1 = pq_axis_at(x, after);
    pq_page_f(p, "<text class=\"lab\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", PAIR_LEFT - 12,
              y + 4);
    pq_page_text(p, pq_field_text(v, "name"));
    pq_page_f(p,
              "</text><path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/><circle class=\"hollow\" "
              "cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/><circle class=\"b8\" cx=\"%.1f\" cy=\"%.1f\" "
              "r=\"4.5\"/><text x=\"%d\" y=\"%.1f\">",
              x0, y, x1, x0, y, x1, y, PAIR_W - PAIR_RIGHT + 14, y + 4);
    pq_page_number(p, before, 1, false);
    pq_page_raw(p, " \xe2\x86\x92 ");
    pq_page_number(p, after, 1, false);
    pq_page_raw(p, " (");
    pq_page_number(p, after - before, 1, true);
    pq_page_raw(p, ")</text>");
    pq_page_f(p,
              "<rect data-mark class=\"hit\" x=\"0\" y=\"%.1f\" width=\"%d\" "
              "height=\"%d\"><title>",
              y - PAIR_ROW / 2.0, PAIR_W, PAIR_ROW);
    pq_page_text(p, pq_field_text(v, "name"));
    pq_page_raw(p, "\n");
    pq_page_number(p, before, 2, false);
    pq_page_raw(p, " before, ");
    pq_page_number(p, after, 2, false);
    pq_page_raw(p, " after");
    if (isfinite(pq_field_number(v, "objects")))
        pq_page_f(p, "\n%.0f objects", pq_field_number(v, "objects"));
    pq_page_raw(p, "</title></rect>\n");
}

static void pairs(pq_page *p, const cJSON *const *row, int n, const char *label)
{
    const double bottom = 8 + n * PAIR_ROW;
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < n; i++) {
        pq_widen(&lo, &hi, 100 * pq_field_number(row[i], "before"));
        pq_widen(&lo, &hi, 100 * pq_field_number(row[i], "after"));
    }
    if (!(lo <= hi)) return;
    const pq_axis x = pq_axis_make(lo, hi, PAIR_LEFT, PAIR_W - PAIR_RIGHT, 5);
    pq_page_chart(p, PAIR_W, (int)bottom + 24, "narrow", label);
    pq_page_x_grid(p, &x, 4, bottom);
    for (int i = 0; i < n; i++) pair_row(p, row[i], &x, 8 + (i + 0.5) * PAIR_ROW);
    pq_page_chart_end(p, NULL);
}

static double change_of(const cJSON *v)
{
    return fabs(pq_field_number(v, "after") - pq_field_number(v, "before"));
}

static void accuracy_table(pq_page *p, const cJSON *doc)
{
    static const char *const head[] = {"Class", "#Objects", "#Before", "#After", "#Change", NULL};
    const cJSON *v;
    pq_page_table(p, "Table of all classes", head);
    cJSON_ArrayForEach(v, pq_field(doc, "classes"))
    {
        pq_page_raw(p, "<tr><td class=\"name\">");
        pq_page_text(p, pq_field_text(v, "name"));
        pq_page_raw(p, "</td>");
        pq_page_cell(p, pq_field_number(v, "objects"), 0, false);
        pq_page_cell(p, 100 * pq_field_number(v, "before"), 2, false);
        pq_page_cell(p, 100 * pq_field_number(v, "after"), 2, false);
        pq_page_cell(p, 100 * (pq_field_number(v, "after") - pq_field_number(v, "before")), 2,
                     true);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_table_end(p);
}

void pq_page_accuracy(pq_page *p, const cJSON *doc)
{
    enum { SIZES = 8, CLASSES = 16 };
    const cJSON *row[CLASSES], *v;
    int n = 0, total = 0;
    if (!pq_field_list(doc, "sizes")) return;
    pq_page_section(p, "accuracy", "Accuracy by size and class");
    pq_page_raw(
        p, "<p>AP in points: hollow in full precision, filled after partial "
           "quantization. Small objects cover less than 32 \xc3\x97 32 pixels, large ones more "
           "than 96 \xc3\x97 96.</p>\n<h3>By size</h3>\n");
    cJSON_ArrayForEach(v, pq_field(doc, "sizes")) if (n < SIZES) row[n++] = v;
    pairs(p, row, n, "AP by size of object, before and after");
    n = 0;
    cJSON_ArrayForEach(v, pq_field(doc, "classes"))
    {
        int at = n; /* by falling change: insertion into the few that are drawn */
        total++;
        while (at > 0 && change_of(v) > change_of(row[at - 1])) at--;
        if (at == CLASSES) continue;
        const int moved = (n < CLASSES ? n : CLASSES - 1) - at;
        memmove(&row[at + 1], &row[at], (size_t)moved * sizeof *row);
        row[at] = v;
        if (n < CLASSES) n++;
    }
    if (n > 0) {
        pq_page_raw(p, "<h3>By class</h3>\n");
        if (total > n)
            pq_page_f(p, "<p class=\"note\">The %d of %d classes that changed most.</p>\n", n,
                      total);
        pairs(p, row, n, "AP of the classes that changed most, before and after");
        accuracy_table(p, doc);
    }
    pq_page_raw(p, "</section>\n");
}

/* ---- shift of scores ---- */

/* Bars around 0, at most MOST_BARS a side, each of so many of the document's fine bins. */
enum { MOST_BARS = 16 };

typedef struct bars {
    double n[2 * MOST_BARS + 1], total;
    double width; /* of one bar, in score */
    int reach;    /* bars on each side of the middle one */
} bars;

static bars gather(const cJSON *bins)
{
    bars out = {.reach = 1};
    const cJSON *v;
    const int n = cJSON_GetArraySize(bins);
    int i = 0, far = 1;
    cJSON_ArrayForEach(v, bins)
    {
        if (v->valuedouble > 0 && abs(i - n / 2) > far) far = abs(i - n / 2);
        i++;
    }
    int group = 1; /* odd, so that the middle bar has 0 in its middle */
    while ((far + group / 2) / group > MOST_BARS) group += 2;
    out.reach = (far + group / 2) / group;
    out.width = 2.0 / n * group;
    i = 0;
    cJSON_ArrayForEach(v, bins)
    {
        const int at = i++ - n / 2, bar = (abs(at) + group / 2) / group;
        if (bar > out.reach) continue;
        out.n[MOST_BARS + (at < 0 ? -bar : bar)] += v->valuedouble;
        out.total += v->valuedouble;
    }
    return out;
}

static void bar_range(pq_page *p, const bars *b, int k)
{
    pq_page_number(p, (k - 0.5) * b->width, 3, true);
    pq_page_raw(p, " to ");
    pq_page_number(p, (k + 0.5) * b->width, 3, true);
}

static void histogram(pq_page *p, const bars *b)
{
    enum { W = 560, H = 220, LEFT = 46, BOTTOM = 180 };
    const double pitch = (W - LEFT - 14.0) / (2 * b->reach + 1);
    double most = 0;
    for (int k = -b->reach; k <= b->reach; k++) most = fmax(most, b->n[MOST_BARS + k]);
    const double end = (b->reach + 0.5) * b->width;
    const pq_axis y = pq_axis_make(0, most, BOTTOM, 16, 4);
    const pq_axis x = {
        -end, end, LEFT, W - 14, end > 0.4 ? 0.2 : end > 0.2 ? 0.1 : end > 0.1 ? 0.05 : 0.02, 2};
    pq_page_chart(p, W, H, "narrow", "Histogram of the shift of scores of boxes found by both");
    pq_page_x_grid(p, &x, 16, BOTTOM);
    pq_page_y_grid(p, &y, LEFT, W - 14, false);
    for (int k = -b->reach; k <= b->reach; k++) {
        const double n = b->n[MOST_BARS + k], left = LEFT + (k + b->reach) * pitch;
        const double top = pq_axis_at(&y, n);
        pq_page_f(
            p,
            "<rect class=\"b8\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/><rect "
            "data-mark class=\"hit\" x=\"%.1f\" y=\"16\" width=\"%.1f\" height=\"%d\"><title>",
            left + 0.5, top, pitch - 1, BOTTOM - top, left, pitch, BOTTOM - 16);
        bar_range(p, b, k);
        pq_page_f(p, "\n%.0f boxes, %.1f %%</title></rect>\n", n, 100 * n / fmax(b->total, 1));
    }
    pq_page_f(
        p, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">score after less score before</text>\n",
        (LEFT + W) / 2, H - 6);
    pq_page_chart_end(p, NULL);
}

static void shift_table(pq_page *p, const bars *b)
{
    static const char *const head[] = {"Shift of the score", "#Boxes", NULL};
    pq_page_table(p, "Table of the shifts", head);
    for (int k = -b->reach; k <= b->reach; k++) {
        if (!(b->n[MOST_BARS + k] > 0)) continue;
        pq_page_raw(p, "<tr><td>");
        bar_range(p, b, k);
        pq_page_raw(p, "</td>");
        pq_page_cell(p, b->n[MOST_BARS + k], 0, false);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_table_end(p);
}

void pq_page_shift(pq_page *p, const cJSON *doc)
{
    const cJSON *d = pq_field(doc, "detections"), *bins = pq_field_list(d, "shift_histogram");
    if (!d) return;
    const double before = pq_field_number(d, "before");
    pq_page_section(p, "detections", "Boxes that came, went and shifted");
    pq_page_f(p,
              "<p>Of %.0f boxes above a score of %.1f in full precision, %.0f (%.1f&nbsp;%%) are "
              "found again above it, of the same class and at an IoU of at least %.1f; %.0f were "
              "lost and %.0f are new.",
              before, pq_field_number(d, "score_shown"), pq_field_number(d, "kept"),
              before > 0 ? 100 * pq_field_number(d, "kept") / before : 100,
              pq_field_number(d, "iou"), pq_field_number(d, "lost"), pq_field_number(d, "gained"));
    if (bins) {
        pq_page_raw(p, " Their scores moved by ");
        pq_page_number(p, pq_field_number(d, "shift_mean"), 3, true);
        pq_page_f(p, " on average, by %.3f in size.</p>\n",
                  pq_field_number(d, "shift_mean_absolute"));
        const bars b = gather(bins);
        histogram(p, &b);
        shift_table(p, &b);
    } else
        pq_page_raw(p, "</p>\n");
    pq_page_raw(p, "</section>\n");
}
