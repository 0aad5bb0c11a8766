/* A pickle machine that cannot run code: opcodes as in CPython's pickletools, a table of known
 * globals. It has no recursion; every array is bounded by the length of the pickle. */
#include "read/pickle_machine.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_BYTES = 16 << 20, /* a detector's is 0.1 MB; an opcode of one byte may cost 50 bytes */
    MAX_STACK = 1 << 22,
    MAX_MARKS = 10000 /* nested open containers */
};

pq_status pq_pickle_bad(pq_pickle *m, pq_status st, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return pq_fail(m->ctx, st, "pickle byte %zu: %s", m->op_at, text);
}

const char *pq_py_kind_name(pq_py_kind kind)
{
    static const char *const name[] = {"None",         "a boolean", "an integer", "a float",
                                       "a string",     "bytes",     "a tuple",    "a list",
                                       "a dictionary", "a global",  "a storage",  "a tensor"};
    return (size_t)kind < sizeof name / sizeof *name ? name[kind] : "?";
}

const pq_py *pq_py_get(const pq_py *d, const char *key)
{
    const size_t n = strlen(key);
    if (!d || d->kind != PQ_PY_DICT) return NULL;
    for (size_t i = d->u.seq.n; i >= 2; i -= 2) {
        const pq_py *k = d->u.seq.item[i - 2];
        if (k->kind == PQ_PY_STR && k->u.str.n == n && memcmp(k->u.str.s, key, n) == 0)
            return d->u.seq.item[i - 1];
    }
    return NULL;
}

/* ---- input ---- */

static pq_status take(pq_pickle *m, const uint8_t **out, uint64_t n)
{
    *out = NULL;
    if (n > m->n - m->at)
        return PQ_PICKLE_BAD(m, "truncated: %llu bytes wanted, %zu left", (unsigned long long)n,
                             m->n - m->at);
    *out = m->data + m->at;
    m->at += (size_t)n;
    return PQ_OK;
}

/* Little-endian, n <= 8 bytes. */
static pq_status take_uint(pq_pickle *m, uint64_t *out, size_t n)
{
    const uint8_t *p = NULL;
    pq_status st = take(m, &p, n);
    *out = 0;
    for (size_t i = 0; st == PQ_OK && i < n; i++) *out |= (uint64_t)p[i] << 8 * i;
    return st;
}

pq_status pq_pickle_line(pq_pickle *m, const char **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    const char *p = (const char *)m->data + m->at;
    const char *end = memchr(p, '\n', m->n - m->at);
    if (!end) return PQ_PICKLE_BAD(m, "truncated: no end of line");
    *out = p;
    *n = (size_t)(end - p);
    m->at += *n + 1;
    return PQ_OK;
}

/* ---- stack and values ---- */

pq_status pq_pickle_push(pq_pickle *m, pq_py *v)
{
    if (m->n_stack == m->room_stack) {
        if (m->n_stack >= MAX_STACK)
            return PQ_PICKLE_BAD(m, "stack deeper than %d", (int)MAX_STACK);
        size_t room = m->room_stack ? 2 * m->room_stack : 256;
        pq_status st = pq_grow(m->ctx, &m->stack, m->n_stack, room, sizeof *m->stack);
        if (st != PQ_OK) return st;
        m->room_stack = room;
    }
    m->stack[m->n_stack++] = v;
    return PQ_OK;
}

pq_status pq_pickle_pop(pq_pickle *m, pq_py **out)
{
    *out = NULL;
    if (m->n_stack <= pq_pickle_floor(m))
        return PQ_PICKLE_BAD(m, "opcode 0x%02x: empty stack", m->data[m->op_at]);
    *out = m->stack[--m->n_stack];
    return PQ_OK;
}

pq_status pq_pickle_peek(pq_pickle *m, pq_py **out)
{
    pq_status st = pq_pickle_pop(m, out);
    if (st == PQ_OK) m->n_stack++;
    return st;
}

static pq_status push_mark(pq_pickle *m)
{
    if (m->n_marks == m->room_marks) {
        if (m->n_marks >= MAX_MARKS)
            return PQ_PICKLE_BAD(m, "containers nested deeper than %d", (int)MAX_MARKS);
        size_t room = m->room_marks ? 2 * m->room_marks : 64;
        pq_status st = pq_grow(m->ctx, &m->mark, m->n_marks, room, sizeof *m->mark);
        if (st != PQ_OK) return st;
        m->room_marks = room;
    }
    m->mark[m->n_marks++] = m->n_stack;
    return PQ_OK;
}

/* The items above the last mark; they stay valid until the next push. */
static pq_status pop_mark(pq_pickle *m, pq_py ***items, size_t *n)
{
    *items = NULL;
    *n = 0;
    if (!m->n_marks) return PQ_PICKLE_BAD(m, "opcode 0x%02x: no mark", m->data[m->op_at]);
    size_t from = m->mark[--m->n_marks];
    *items = m->stack + from;
    *n = m->n_stack - from;
    m->n_stack = from;
    return PQ_OK;
}

pq_status pq_pickle_make(pq_pickle *m, pq_py **out, pq_py_kind kind)
{
    pq_status st = pq_arena_alloc(m->ctx, m->arena, out, 1, sizeof **out);
    if (st == PQ_OK) (*out)->kind = kind;
    return st;
}

static pq_status push_int(pq_pickle *m, int64_t i)
{
    pq_py *v;
    pq_status st = pq_pickle_make(m, &v, PQ_PY_INT);
    if (st != PQ_OK) return st;
    v->u.i = i;
    return pq_pickle_push(m, v);
}

static pq_status push_float(pq_pickle *m, double f)
{
    pq_py *v;
    pq_status st = pq_pickle_make(m, &v, PQ_PY_FLOAT);
    if (st != PQ_OK) return st;
    v->u.f = f;
    return pq_pickle_push(m, v);
}

static pq_status push_text(pq_pickle *m, pq_py_kind kind, const void *s, size_t n)
{
    pq_py *v;
    char *copy;
    pq_status st = pq_pickle_make(m, &v, kind);
    if (st == PQ_OK) st = pq_arena_alloc(m->ctx, m->arena, &copy, n + 1, 1);
    if (st != PQ_OK) return st;
    if (n) memcpy(copy, s, n);
    copy[n] = 0;
    v->u.str.s = copy;
    v->u.str.n = n;
    return pq_pickle_push(m, v);
}

/* A string with a length of len_bytes bytes in front. */
static pq_status op_text(pq_pickle *m, pq_py_kind kind, size_t len_bytes)
{
    uint64_t n;
    const uint8_t *p;
    pq_status st = take_uint(m, &n, len_bytes);
    if (st == PQ_OK) st = take(m, &p, n);
    return st == PQ_OK ? push_text(m, kind, p, (size_t)n) : st;
}

static pq_status append(pq_pickle *m, pq_py *seq, pq_py *const *items, size_t n)
{
    if (seq->u.seq.n + n > seq->u.seq.room) {
        pq_py **old = seq->u.seq.item, **item;
        size_t room = 2 * seq->u.seq.room;
        if (room < seq->u.seq.n + n) room = seq->u.seq.n + n;
        pq_status st = pq_arena_alloc(m->ctx, m->arena, &item, room, sizeof *item);
        if (st != PQ_OK) return st;
        if (seq->u.seq.n) memcpy(item, old, seq->u.seq.n * sizeof *item);
        seq->u.seq.item = item;
        seq->u.seq.room = room;
    }
    if (n) memcpy(seq->u.seq.item + seq->u.seq.n, items, n * sizeof *items);
    seq->u.seq.n += n;
    return PQ_OK;
}

pq_status pq_pickle_push_seq(pq_pickle *m, pq_py_kind kind, pq_py *const *items, size_t n)
{
    pq_py *v;
    pq_status st = pq_pickle_make(m, &v, kind);
    if (st == PQ_OK) st = append(m, v, items, n);
    return st == PQ_OK ? pq_pickle_push(m, v) : st;
}

static pq_status op_seq(pq_pickle *m, pq_py_kind kind)
{
    pq_py **items;
    size_t n;
    pq_status st = pop_mark(m, &items, &n);
    if (st != PQ_OK) return st;
    if (kind == PQ_PY_DICT && n % 2)
        return PQ_PICKLE_BAD(m, "a dictionary with a key without value");
    return pq_pickle_push_seq(m, kind, items, n);
}

static pq_status op_tuple(pq_pickle *m, size_t n)
{
    if (m->n_stack - pq_pickle_floor(m) < n)
        return PQ_PICKLE_BAD(m, "tuple of %zu: the stack has fewer", n);
    m->n_stack -= n;
    return pq_pickle_push_seq(m, PQ_PY_TUPLE, m->stack + m->n_stack, n);
}

/* APPEND(S), SETITEM(S), ADDITEMS: items, popped by the caller, into the container now on top. */
static pq_status op_extend(pq_pickle *m, pq_py_kind kind, pq_py *const *items, size_t n)
{
    pq_py *v;
    pq_status st = pq_pickle_peek(m, &v);
    if (st != PQ_OK) return st;
    if (v->kind != kind)
        return PQ_PICKLE_BAD(m, "items for %s, expected %s", pq_py_kind_name(v->kind),
                             pq_py_kind_name(kind));
    if (kind == PQ_PY_DICT && n % 2)
        return PQ_PICKLE_BAD(m, "a dictionary with a key without value");
    return append(m, v, items, n);
}

static pq_status op_extend_marked(pq_pickle *m, pq_py_kind kind)
{
    pq_py **items;
    size_t n;
    pq_status st = pop_mark(m, &items, &n);
    return st == PQ_OK ? op_extend(m, kind, items, n) : st;
}

static pq_status op_extend_by(pq_pickle *m, pq_py_kind kind, size_t n)
{
    if (m->n_stack - pq_pickle_floor(m) < n)
        return PQ_PICKLE_BAD(m, "the stack has fewer than %zu items", n);
    m->n_stack -= n;
    return op_extend(m, kind, m->stack + m->n_stack, n);
}

/* ---- memo ---- */

static pq_status memo_put(pq_pickle *m, uint64_t index)
{
    pq_py *v;
    pq_status st = pq_pickle_peek(m, &v);
    if (st != PQ_OK) return st;
    /* Picklers count up from 0 with at least one byte each. */
    if (index >= m->n)
        return PQ_PICKLE_BAD(m, "memo index %llu in a pickle of %zu bytes",
                             (unsigned long long)index, m->n);
    if (index >= m->room_memo) {
        size_t room = m->room_memo ? m->room_memo : 1024;
        while (room <= index) room *= 2;
        if ((st = pq_grow(m->ctx, &m->memo, m->room_memo, room, sizeof *m->memo)) != PQ_OK)
            return st;
        m->room_memo = room;
    }
    if (!m->memo[index]) m->n_memo++;
    m->memo[index] = v;
    return PQ_OK;
}

static pq_status memo_get(pq_pickle *m, uint64_t index)
{
    if (index >= m->room_memo || !m->memo[index])
        return PQ_PICKLE_BAD(m, "memo index %llu was never stored", (unsigned long long)index);
    return pq_pickle_push(m, m->memo[index]);
}

/* ---- text opcodes of protocol 0 ---- */

static pq_status line_number(pq_pickle *m, char *text, size_t size)
{
    const char *p = NULL;
    size_t n = 0;
    pq_status st = pq_pickle_line(m, &p, &n);
    if (st != PQ_OK) return st;
    if (n && p[n - 1] == 'L') n--;
    if (!n || n >= size) return PQ_PICKLE_BAD(m, "a number of %zu characters", n);
    memcpy(text, p, n);
    text[n] = 0;
    return PQ_OK;
}

static pq_status op_int_text(pq_pickle *m)
{
    char text[32], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    if (m->data[m->op_at] == 'I' && strcmp(text, "00") == 0) return pq_pickle_push(m, m->no);
    if (m->data[m->op_at] == 'I' && strcmp(text, "01") == 0) return pq_pickle_push(m, m->yes);
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end) return PQ_PICKLE_BAD(m, "'%s' is no 64-bit integer", text);
    return push_int(m, v);
}

static pq_status op_float_text(pq_pickle *m)
{
    char text[64], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    double v = strtod(text, &end);
    if (*end) return PQ_PICKLE_BAD(m, "'%s' is no number", text);
    return push_float(m, v);
}

static pq_status op_memo_text(pq_pickle *m, bool put)
{
    char text[32], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || !isdigit((unsigned char)text[0]))
        return PQ_PICKLE_BAD(m, "'%s' is no index", text);
    return put ? memo_put(m, v) : memo_get(m, v);
}

static pq_status op_string_text(pq_pickle *m)
{
    const char *p = NULL;
    size_t n = 0;
    pq_status st = pq_pickle_line(m, &p, &n);
    if (st != PQ_OK) return st;
    if (m->data[m->op_at] == 'S') {
        if (n < 2 || (p[0] != '\'' && p[0] != '"') || p[n - 1] != p[0])
            return PQ_PICKLE_BAD(m, "a string without quotes");
        p++, n -= 2;
    }
    if (memchr(p, '\\', n)) return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "escapes in a text string");
    return push_text(m, PQ_PY_STR, p, n);
}

static pq_status op_long(pq_pickle *m, size_t len_bytes)
{
    uint64_t n, v = 0;
    const uint8_t *p;
    pq_status st = take_uint(m, &n, len_bytes);
    if (st == PQ_OK) st = take(m, &p, n);
    if (st != PQ_OK) return st;
    if (n > 8)
        return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "an integer of %llu bytes",
                             (unsigned long long)n);
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    if (n && n < 8 && p[n - 1] & 0x80) v |= UINT64_MAX << 8 * n;
    return push_int(m, (int64_t)v);
}

static pq_status op_binfloat(pq_pickle *m)
{
    const uint8_t *p;
    union {
        uint64_t u;
        double f;
    } v = {0};
    pq_status st = take(m, &p, 8);
    if (st != PQ_OK) return st;
    for (int i = 0; i < 8; i++) v.u = v.u << 8 | p[i];
    return push_float(m, v.f);
}

/* ---- the machine ---- */

static pq_status op_int(pq_pickle *m, size_t n)
{
    uint64_t v;
    pq_status st = take_uint(m, &v, n);
    if (st != PQ_OK) return st;
    return push_int(m, n == 4 ? (int32_t)(uint32_t)v : (int64_t)v);
}

static pq_status op_memo(pq_pickle *m, bool put, size_t n)
{
    uint64_t index;
    pq_status st = take_uint(m, &index, n);
    if (st != PQ_OK) return st;
    return put ? memo_put(m, index) : memo_get(m, index);
}

static pq_status op_pop(pq_pickle *m, bool to_mark)
{
    pq_py *v, **items;
    size_t n;
    if (to_mark) return pop_mark(m, &items, &n);
    if (m->n_marks && m->n_stack == pq_pickle_floor(m)) { /* POP takes a mark off too */
        m->n_marks--;
        return PQ_OK;
    }
    return pq_pickle_pop(m, &v);
}

static pq_status op_protocol(pq_pickle *m)
{
    uint64_t v;
    pq_status st = take_uint(m, &v, 1);
    if (st == PQ_OK && v > 5)
        st = pq_pickle_bad(m, PQ_E_UNSUPPORTED, "protocol %d, expected at most 5", (int)v);
    return st;
}

static pq_status step(pq_pickle *m, uint8_t op)
{
    pq_py *v;
    pq_status st;
    uint64_t frame;
    switch (op) {
    case 0x80: return op_protocol(m);
    case 0x95: return take_uint(m, &frame, 8); /* FRAME: a hint for buffering */
    case '(': return push_mark(m);
    case '0': return op_pop(m, false);
    case '1': return op_pop(m, true);
    case '2': st = pq_pickle_peek(m, &v); return st == PQ_OK ? pq_pickle_push(m, v) : st;
    case 'N': return pq_pickle_push(m, m->none);
    case 0x88: return pq_pickle_push(m, m->yes);
    case 0x89: return pq_pickle_push(m, m->no);
    case 'I':
    case 'L': return op_int_text(m);
    case 'J': return op_int(m, 4);
    case 'K': return op_int(m, 1);
    case 'M': return op_int(m, 2);
    case 0x8a: return op_long(m, 1);
    case 0x8b: return op_long(m, 4);
    case 'F': return op_float_text(m);
    case 'G': return op_binfloat(m);
    case 'S':
    case 'V': return op_string_text(m);
    case 'U': return op_text(m, PQ_PY_STR, 1);
    case 'T':
    case 'X': return op_text(m, PQ_PY_STR, 4);
    case 0x8c: return op_text(m, PQ_PY_STR, 1);
    case 0x8d: return op_text(m, PQ_PY_STR, 8);
    case 'C': return op_text(m, PQ_PY_BYTES, 1);
    case 'B': return op_text(m, PQ_PY_BYTES, 4);
    case 0x8e:
    case 0x96: return op_text(m, PQ_PY_BYTES, 8);
    case ')': return pq_pickle_push_seq(m, PQ_PY_TUPLE, NULL, 0);
    case 0x85: return op_tuple(m, 1);
    case 0x86: return op_tuple(m, 2);
    case 0x87: return op_tuple(m, 3);
    case 't': return op_seq(m, PQ_PY_TUPLE);
    case ']':
    case 0x8f: return pq_pickle_push_seq(m, PQ_PY_LIST, NULL, 0);
    case 'l':
    case 0x91: return op_seq(m, PQ_PY_LIST);
    case 'a': return op_extend_by(m, PQ_PY_LIST, 1);
    case 'e':
    case 0x90: return op_extend_marked(m, PQ_PY_LIST);
    case '}': return pq_pickle_push_seq(m, PQ_PY_DICT, NULL, 0);
    case 'd': return op_seq(m, PQ_PY_DICT);
    case 's': return op_extend_by(m, PQ_PY_DICT, 2);
    case 'u': return op_extend_marked(m, PQ_PY_DICT);
    case 'p': return op_memo_text(m, true);
    case 'q': return op_memo(m, true, 1);
    case 'r': return op_memo(m, true, 4);
    case 0x94: return memo_put(m, m->n_memo);
    case 'g': return op_memo_text(m, false);
    case 'h': return op_memo(m, false, 1);
    case 'j': return op_memo(m, false, 4);
    case 'c': return pq_pickle_global(m);
    case 'i': /* an instance: refused, by name where the class is unknown */
        st = pq_pickle_global(m);
        return st == PQ_OK ? pq_pickle_bad(m, PQ_E_UNSUPPORTED, "opcode 0x69 (instance)") : st;
    case 0x93: return pq_pickle_stack_global(m);
    case 'Q': return pq_pickle_persid(m);
    case 'R': return pq_pickle_reduce(m);
    case 'b': return pq_pickle_build(m);
    case 0x81: return pq_pickle_newobj(m);
    default: return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "opcode 0x%02x", op);
    }
}

static pq_status run(pq_pickle *m, const pq_py **out)
{
    while (m->at < m->n) {
        pq_py *root;
        m->op_at = m->at;
        const uint8_t op = m->data[m->at++];
        pq_status st;
        if (op == '.') {
            if (m->n_marks) return PQ_PICKLE_BAD(m, "end inside an open container");
            if ((st = pq_pickle_pop(m, &root)) == PQ_OK) *out = root;
            return st;
        }
        if ((st = step(m, op)) != PQ_OK) return st;
    }
    m->op_at = m->at;
    return PQ_PICKLE_BAD(m, "truncated: no end opcode");
}

pq_status pq_pickle_load(pq_ctx *ctx, const pq_py **out, pq_arena *arena, const void *data,
                         size_t bytes)
{
    pq_status st;
    pq_pickle m = {.ctx = ctx, .arena = arena, .data = data, .n = bytes};
    *out = NULL;
    if (bytes > MAX_BYTES)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "pickle of %zu bytes, at most %d are read", bytes,
                       (int)MAX_BYTES);
    PQ_TRY(pq_pickle_make(&m, &m.none, PQ_PY_NONE));
    PQ_TRY(pq_pickle_make(&m, &m.no, PQ_PY_BOOL));
    PQ_TRY(pq_pickle_make(&m, &m.yes, PQ_PY_BOOL));
    m.yes->u.i = 1;
    PQ_TRY(run(&m, out));
out:
    pq_free(m.stack);
    pq_free(m.mark);
    pq_free(m.memo);
    return st;
}
