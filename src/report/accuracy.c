/* Before and after: accuracy by size and class, shift of scores. */
#include <stdlib.h>
#include <string.h>

#include "report/charts.h"

enum { PAIR_W = 560, PAIR_ROW = 22, PAIR_LEFT = 150, PAIR_RIGHT = 168 };

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

static void histogram(pq_page *p, const cJSON *bins)
{
    enum { W = 540, H = 220, LEFT = 46, BOTTOM = 180 };
    const int n = cJSON_GetArraySize(bins);
    double most = 0, total = 0;
    const cJSON *v;
    int i = 0, reach = 1; /* bins on each side of the middle that hold something */
    cJSON_ArrayForEach(v, bins)
    {
        most = fmax(most, v->valuedouble);
        total += v->valuedouble;
        if (v->valuedouble > 0) reach = (int)fmax(reach, abs(i - n / 2));
        i++;
    }
    const double width = 2.0 / n, x_most = (reach + 0.5) * width;
    const double pitch = (W - LEFT - 14.0) / (2 * reach + 1);
    const pq_axis y = pq_axis_make(0, most, BOTTOM, 16, 4);
    pq_page_chart(p, W, H, "narrow", "Histogram of the shift of scores of boxes found by both");
    pq_page_y_grid(p, &y, LEFT, W - 14, false);
    i = 0;
    cJSON_ArrayForEach(v, bins)
    {
        const int at = i++ - n / 2 + reach;
        if (at < 0 || at > 2 * reach) continue;
        const double top = pq_axis_at(&y, v->valuedouble), x = LEFT + at * pitch;
        pq_page_f(
            p,
            "<rect class=\"b8\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/><rect "
            "data-mark class=\"hit\" x=\"%.1f\" y=\"16\" width=\"%.1f\" height=\"%d\"><title>",
            x + 1, top, pitch - 2, BOTTOM - top, x, pitch, BOTTOM - 16);
        pq_page_number(p, (at - reach - 0.5) * width, 2, true);
        pq_page_raw(p, " to ");
        pq_page_number(p, (at - reach + 0.5) * width, 2, true);
        pq_page_f(p, "\n%.0f boxes, %.1f %%</title></rect>\n", v->valuedouble,
                  100 * v->valuedouble / fmax(total, 1));
    }
    for (i = -1; i <= 1; i++) {
        pq_page_f(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">",
                  i == 0  ? (LEFT + W - 14) / 2.0
                  : i < 0 ? LEFT
                          : W - 14.0,
                  BOTTOM + 16,
                  i == 0  ? "middle"
                  : i < 0 ? "start"
                          : "end");
        pq_page_number(p, i * x_most, 2, i != 0);
        pq_page_raw(p, "</text>");
    }
    pq_page_f(p,
              "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">score after less score "
              "before</text>\n",
              (LEFT + W) / 2, H - 6);
    pq_page_chart_end(p, NULL);
}

void pq_page_shift(pq_page *p, const cJSON *doc)
{
    const cJSON *d = pq_field(doc, "detections"), *bins = pq_field_list(d, "shift_histogram"), *v;
    static const char *const head[] = {"Shift", "#Boxes", NULL};
    int i = 0;
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
        histogram(p, bins);
        const double width = 2.0 / cJSON_GetArraySize(bins);
        pq_page_table(p, "Table of the shifts", head);
        cJSON_ArrayForEach(v, bins)
        {
            const double from = -1 + i++ * width;
            if (!(v->valuedouble > 0)) continue;
            pq_page_raw(p, "<tr><td>");
            pq_page_number(p, from, 2, true);
            pq_page_raw(p, " to ");
            pq_page_number(p, from + width, 2, true);
            pq_page_raw(p, "</td>");
            pq_page_cell(p, v->valuedouble, 0, false);
            pq_page_raw(p, "</tr>");
        }
        pq_page_table_end(p);
    } else
        pq_page_raw(p, "</p>\n");
    pq_page_raw(p, "</section>\n");
}
