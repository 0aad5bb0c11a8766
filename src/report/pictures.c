/* Detections side by side: each picture once in the page, the boxes drawn over it twice. */
#include <string.h>

#include "report/charts.h"

enum { COLOURS = 12, NAME_BYTES = 32, MOST_LABELS = 64 };

/* Hues far apart, dark enough for white letters. */
static const char *const colour[COLOURS] = {"#c2255c", "#1864ab", "#2b8a3e", "#a84300",
                                            "#6741d9", "#0b7285", "#8a6100", "#9c36b5",
                                            "#364fc7", "#5c940d", "#c92a2a", "#495057"};

/* At most that many bytes of it, cut between characters. */
static size_t cut_name(char out[NAME_BYTES], const char *name)
{
    size_t n = name ? strlen(name) : 0;
    if (n >= NAME_BYTES) n = NAME_BYTES - 1;
    while (n > 0 && name[n] && ((unsigned char)name[n] & 0xc0) == 0x80) n--;
    if (n) memcpy(out, name, n);
    out[n] = 0;
    size_t characters = 0;
    for (size_t i = 0; i < n; i++) characters += ((unsigned char)out[i] & 0xc0) != 0x80;
    return characters;
}

typedef struct area {
    double x, y, w, h;
} area;

/* The part of the box that lies in the picture. */
static area clip(const cJSON *b, double w, double h)
{
    const double x = fmin(fmax(pq_field_number(b, "x"), 0), w);
    const double y = fmin(fmax(pq_field_number(b, "y"), 0), h);
    const double x1 = fmin(fmax(pq_field_number(b, "x") + pq_field_number(b, "w"), x), w);
    const double y1 = fmin(fmax(pq_field_number(b, "y") + pq_field_number(b, "h"), y), h);
    return (area){x, y, x1 - x, y1 - y};
}

static const char *colour_of(const cJSON *b)
{
    const double label = pq_field_number(b, "label");
    return colour[label >= 0 && label < 1e9 ? (size_t)label % COLOURS : 0];
}

static void box(pq_page *p, const cJSON *b, double w, double h, double unit)
{
    const area a = clip(b, w, h);
    const bool both = pq_field_true(b, "in_both");
    pq_page_f(p,
              "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" "
              "stroke=\"%s\" stroke-width=\"%.1f\"%s><title>",
              a.x, a.y, a.w, a.h, colour_of(b), (both ? 2 : 3.5) * unit,
              both ? "" : " stroke-dasharray=\"7 4\"");
    pq_page_text(p, pq_field_text(b, "class"));
    pq_page_f(p, " %.2f</title></rect>\n", pq_field_number(b, "score"));
}

static bool is_free(const area *taken, size_t n, area a)
{
    for (size_t i = 0; i < n; i++)
        if (a.x < taken[i].x + taken[i].w && taken[i].x < a.x + a.w &&
            a.y < taken[i].y + taken[i].h && taken[i].y < a.y + a.h)
            return false;
    return true;
}

/* Above the box, else inside its top, else below it, at its left side, else at its right; where
 * none is free there is no label: the box tells its name under the pointer. */
static void label(pq_page *p, const cJSON *b, double w, double h, double unit, area *taken,
                  size_t *n)
{
    char name[NAME_BYTES];
    const area a = clip(b, w, h);
    const double size = 13 * unit;
    /* a monospaced character is 0.6 of its size wide */
    const double letters = (double)cut_name(name, pq_field_text(b, "class")) + 5;
    area at = {0, 0, letters * 0.6 * size + 8 * unit, size * 1.4};
    const double x[2] = {a.x, a.x + a.w - at.w}, y[3] = {a.y - at.h, a.y, a.y + a.h};
    bool placed = false;
    for (int i = 0; i < 6 && !placed; i++) {
        at.x = fmax(0, fmin(x[i / 3], w - at.w));
        at.y = y[i % 3];
        placed = at.y >= 0 && at.y + at.h <= h && is_free(taken, *n, at);
    }
    if (!placed || *n == MOST_LABELS) return;
    taken[(*n)++] = at;
    pq_page_f(p,
              "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/><text "
              "x=\"%.1f\" y=\"%.1f\" style=\"font-size:%.1fpx\">",
              at.x, at.y, at.w, at.h, colour_of(b), at.x + 4 * unit, at.y + size * 1.05, size);
    pq_page_text(p, name);
    pq_page_f(p, " %.2f</text>\n", pq_field_number(b, "score"));
}

static void list_in_words(pq_page *p, const cJSON *boxes)
{
    const cJSON *b;
    if (!boxes->child) pq_page_raw(p, "nothing");
    cJSON_ArrayForEach(b, boxes)
    {
        if (b != boxes->child) pq_page_raw(p, ", ");
        pq_page_text(p, pq_field_text(b, "class"));
        pq_page_f(p, " %.2f%s", pq_field_number(b, "score"),
                  pq_field_true(b, "in_both") ? "" : " (here only)");
    }
}

static void side(pq_page *p, const cJSON *pic, const pq_report_picture *jpeg, int i, bool after)
{
    const double w = pq_field_number(pic, "width"), h = pq_field_number(pic, "height");
    const cJSON *boxes = pq_field(pic, after ? "after" : "before"), *b;
    const double unit = fmax(w, h) / 520;
    area taken[MOST_LABELS];
    size_t n_taken = 0;
    int n = 0, own = 0;
    pq_page_f(p, "<figure><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s: ", w, h,
              after ? "After" : "Before");
    list_in_words(p, boxes);
    pq_page_raw(p, "\">");
    if (!after) {
        pq_page_f(p,
                  "<image id=\"picture-%d\" width=\"%.0f\" height=\"%.0f\" "
                  "preserveAspectRatio=\"none\" href=\"data:image/jpeg;base64,",
                  i, w, h);
        pq_page_base64(p, jpeg->jpeg, jpeg->bytes);
        pq_page_raw(p, "\"/>\n");
    } else
        pq_page_f(p, "<use href=\"#picture-%d\"/>\n", i);
    cJSON_ArrayForEach(b, boxes)
    {
        n++;
        own += !pq_field_true(b, "in_both");
    }
    for (b = n ? boxes->child->prev : NULL; b; b = b == boxes->child ? NULL : b->prev)
        box(p, b, w, h, unit); /* the best on top */
    cJSON_ArrayForEach(b, boxes) label(p, b, w, h, unit, taken, &n_taken);
    pq_page_f(p, "</svg><figcaption>%s: %d boxes", after ? "Partial" : "Full precision", n);
    if (own) pq_page_f(p, ", %d of them here only (dashed)", own);
    pq_page_raw(p, "</figcaption></figure>\n");
}

void pq_page_pictures(pq_page *p, const pq_report *r)
{
    const cJSON *list = pq_field_list(r->doc, "pictures"), *pic;
    int i = 0;
    if (!list || !r->n_pictures) return;
    pq_page_section(p, "pictures", "Side by side");
    pq_page_f(p,
              "<p>The images on which most changed: boxes above a score of %.1f, dashed where the "
              "other side has no such box.</p>\n",
              pq_field_number(pq_field(r->doc, "detections"), "score_shown"));
    cJSON_ArrayForEach(pic, list)
    {
        if ((size_t)i >= r->n_pictures) break;
        pq_page_raw(p, "<div class=\"pair\"><h3>");
        pq_page_text(p, pq_field_text(pic, "file"));
        pq_page_raw(p, "</h3><div class=\"sides\">");
        side(p, pic, &r->picture[i], i, false);
        side(p, pic, &r->picture[i], i, true);
        pq_page_raw(p, "</div></div>\n");
        i++;
    }
    pq_page_raw(p, "</section>\n");
}
