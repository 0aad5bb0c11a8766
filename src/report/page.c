/* Text that grows; escaping; base64. */
#include "report/page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static bool make_room(pq_page *p, size_t n)
{
    if (p->st != PQ_OK) return false;
    if (n > SIZE_MAX / 4 || p->n > SIZE_MAX / 4) {
        p->st = pq_fail(p->ctx, PQ_E_NOMEM, "no memory for a page of %zu bytes", p->n);
        return false;
    }
    if (p->n + n + 1 <= p->room) return true;
    const size_t room = 2 * (p->n + n) + 4096;
    p->st = pq_grow(p->ctx, &p->text, p->room, room, 1);
    if (p->st == PQ_OK) p->room = room;
    return p->st == PQ_OK;
}

void pq_page_bytes(pq_page *p, const char *bytes, size_t n)
{
    if (!make_room(p, n)) return;
    memcpy(p->text + p->n, bytes, n);
    p->n += n;
    p->text[p->n] = 0;
}

void pq_page_raw(pq_page *p, const char *text) { pq_page_bytes(p, text, strlen(text)); }

size_t pq_utf8_length(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    uint32_t v;
    size_t n;
    if (u[0] < 0x80) return u[0] >= 0x20 && u[0] != 0x7f ? 1 : u[0] == '\n' || u[0] == '\t';
    if (u[0] >= 0xc2 && u[0] < 0xe0)
        n = 2, v = u[0] & 0x1fu;
    else if (u[0] >= 0xe0 && u[0] < 0xf0)
        n = 3, v = u[0] & 0x0fu;
    else if (u[0] >= 0xf0 && u[0] < 0xf5)
        n = 4, v = u[0] & 0x07u;
    else
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (u[i] & 0x3fu);
    }
    if ((n == 3 && v < 0x800) || (n == 4 && (v < 0x10000 || v > 0x10ffff))) return 0;
    if ((v >= 0xd800 && v < 0xe000) || (v >= 0x80 && v < 0xa0) || v == 0xfffe || v == 0xffff)
        return 0;
    if ((v >= 0x202a && v <= 0x202e) || (v >= 0x2066 && v <= 0x2069)) return 0; /* turns text */
    return n;
}

static const char *escaped(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

void pq_page_text(pq_page *p, const char *text)
{
    for (const char *s = text; s && *s;) {
        const size_t n = pq_utf8_length(s);
        const char *e = escaped(*s);
        if (e)
            pq_page_raw(p, e);
        else if (n)
            pq_page_bytes(p, s, n);
        else
            pq_page_raw(p, "\xef\xbf\xbd");
        s += n ? n : 1;
    }
}

void pq_page_f(pq_page *p, const char *fmt, ...)
{
    char short_text[256];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(short_text, sizeof short_text, fmt, ap);
    va_end(ap);
    if (n < 0 || !make_room(p, (size_t)n)) return;
    if ((size_t)n < sizeof short_text) {
        pq_page_bytes(p, short_text, (size_t)n);
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(p->text + p->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    p->n += (size_t)n;
}

void pq_page_base64(pq_page *p, const void *data, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *b = data;
    if (n > SIZE_MAX / 8 || !make_room(p, (n + 2) / 3 * 4)) {
        if (p->st == PQ_OK) p->st = pq_fail(p->ctx, PQ_E_NOMEM, "no memory for %zu bytes", n);
        return;
    }
    char *to = p->text + p->n;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t v = (uint32_t)b[i] << 16 | (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) |
                           (left > 2 ? (uint32_t)b[i + 2] : 0);
        *to++ = digit[v >> 18];
        *to++ = digit[v >> 12 & 63];
        *to++ = left > 1 ? digit[v >> 6 & 63] : '=';
        *to++ = left > 2 ? digit[v & 63] : '=';
    }
    *to = 0;
    p->n = (size_t)(to - p->text);
}

void pq_page_number(pq_page *p, double v, int decimals, bool sign)
{
    char text[64];
    if (!isfinite(v) || fabs(v) > 1e15) {
        pq_page_raw(p, "\xe2\x80\x93");
        return;
    }
    snprintf(text, sizeof text, "%.*f", decimals, fabs(v));
    const bool zero = strspn(text, "0.") == strlen(text);
    if (!zero && v < 0)
        pq_page_raw(p, "\xe2\x88\x92");
    else if (sign)
        pq_page_raw(p, zero ? "\xc2\xb1" : "+");
    pq_page_raw(p, text);
}
