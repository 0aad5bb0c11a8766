/* A pickle machine that cannot run code: opcodes as in CPython's pickletools, a table of known
 * globals. It has no recursion; every array is bounded by the length of the pickle. */
#include "read/pickle.h"

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

typedef enum call {
    CALL_ORDERED_DICT,
    CALL_SIZE,
    CALL_TENSOR,
    CALL_TENSOR_V3,
    CALL_PARAMETER,
    CALL_STORAGE, /* a storage class */
    CALL_DTYPE
} call;

static const struct known {
    const char *name; /* module, space, name: as in the GLOBAL opcode */
    call what;
    pq_dtype dtype;
} known[] = {
    {"collections OrderedDict", CALL_ORDERED_DICT, 0},
    {"torch Size", CALL_SIZE, 0},
    {"torch._utils _rebuild_tensor", CALL_TENSOR, 0},
    {"torch._utils _rebuild_tensor_v2", CALL_TENSOR, 0},
    {"torch._utils _rebuild_tensor_v3", CALL_TENSOR_V3, 0},
    {"torch._utils _rebuild_parameter", CALL_PARAMETER, 0},
    {"torch._utils _rebuild_parameter_with_state", CALL_PARAMETER, 0},
    {"torch FloatStorage", CALL_STORAGE, PQ_F32},
    {"torch HalfStorage", CALL_STORAGE, PQ_F16},
    {"torch BFloat16Storage", CALL_STORAGE, PQ_BF16},
    {"torch DoubleStorage", CALL_STORAGE, PQ_F64},
    {"torch CharStorage", CALL_STORAGE, PQ_S8},
    {"torch ByteStorage", CALL_STORAGE, PQ_U8},
    {"torch ShortStorage", CALL_STORAGE, PQ_S16},
    {"torch IntStorage", CALL_STORAGE, PQ_S32},
    {"torch LongStorage", CALL_STORAGE, PQ_S64},
    {"torch BoolStorage", CALL_STORAGE, PQ_BOOL},
    {"torch.storage UntypedStorage", CALL_STORAGE, PQ_DTYPE_COUNT},
    {"torch float32", CALL_DTYPE, PQ_F32},
    {"torch float16", CALL_DTYPE, PQ_F16},
    {"torch bfloat16", CALL_DTYPE, PQ_BF16},
    {"torch float64", CALL_DTYPE, PQ_F64},
    {"torch int8", CALL_DTYPE, PQ_S8},
    {"torch uint8", CALL_DTYPE, PQ_U8},
    {"torch int16", CALL_DTYPE, PQ_S16},
    {"torch int32", CALL_DTYPE, PQ_S32},
    {"torch int64", CALL_DTYPE, PQ_S64},
    {"torch bool", CALL_DTYPE, PQ_BOOL},
};

typedef struct machine {
    pq_ctx *ctx;
    pq_arena *arena;
    const uint8_t *data;
    size_t n, at, op_at; /* op_at: offset of the opcode in hand, for messages */
    pq_py **stack;
    size_t n_stack, room_stack;
    size_t *mark; /* heights of the stack at MARK */
    size_t n_marks, room_marks;
    pq_py **memo; /* NULL where nothing is stored */
    size_t n_memo, room_memo;
    pq_py *none, *yes, *no;
} machine;

#define BAD(m, ...) bad((m), PQ_E_FORMAT, __VA_ARGS__)

static pq_status bad(machine *m, pq_status st, const char *fmt, ...) PQ_PRINTF(3, 4);
static pq_status bad(machine *m, pq_status st, const char *fmt, ...)
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

static pq_status take(machine *m, const uint8_t **out, uint64_t n)
{
    *out = NULL;
    if (n > m->n - m->at)
        return BAD(m, "truncated: %llu bytes wanted, %zu left", (unsigned long long)n,
                   m->n - m->at);
    *out = m->data + m->at;
    m->at += (size_t)n;
    return PQ_OK;
}

/* Little-endian, n <= 8 bytes. */
static pq_status take_uint(machine *m, uint64_t *out, size_t n)
{
    const uint8_t *p = NULL;
    pq_status st = take(m, &p, n);
    *out = 0;
    for (size_t i = 0; st == PQ_OK && i < n; i++) *out |= (uint64_t)p[i] << 8 * i;
    return st;
}

/* The rest of the line, without its newline. */
static pq_status take_line(machine *m, const char **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    const char *p = (const char *)m->data + m->at;
    const char *end = memchr(p, '\n', m->n - m->at);
    if (!end) return BAD(m, "truncated: no end of line");
    *out = p;
    *n = (size_t)(end - p);
    m->at += *n + 1;
    return PQ_OK;
}

/* ---- stack and values ---- */

static pq_status push(machine *m, pq_py *v)
{
    if (m->n_stack == m->room_stack) {
        if (m->n_stack >= MAX_STACK) return BAD(m, "stack deeper than %d", (int)MAX_STACK);
        size_t room = m->room_stack ? 2 * m->room_stack : 256;
        pq_status st = pq_grow(m->ctx, &m->stack, m->n_stack, room, sizeof *m->stack);
        if (st != PQ_OK) return st;
        m->room_stack = room;
    }
    m->stack[m->n_stack++] = v;
    return PQ_OK;
}

/* Lowest stack index that opcodes may touch: what lies above the last mark. */
static size_t floor_of(const machine *m) { return m->n_marks ? m->mark[m->n_marks - 1] : 0; }

static pq_status pop(machine *m, pq_py **out)
{
    *out = NULL;
    if (m->n_stack <= floor_of(m)) return BAD(m, "opcode 0x%02x: empty stack", m->data[m->op_at]);
    *out = m->stack[--m->n_stack];
    return PQ_OK;
}

static pq_status peek(machine *m, pq_py **out)
{
    pq_status st = pop(m, out);
    if (st == PQ_OK) m->n_stack++;
    return st;
}

static pq_status push_mark(machine *m)
{
    if (m->n_marks == m->room_marks) {
        if (m->n_marks >= MAX_MARKS)
            return BAD(m, "containers nested deeper than %d", (int)MAX_MARKS);
        size_t room = m->room_marks ? 2 * m->room_marks : 64;
        pq_status st = pq_grow(m->ctx, &m->mark, m->n_marks, room, sizeof *m->mark);
        if (st != PQ_OK) return st;
        m->room_marks = room;
    }
    m->mark[m->n_marks++] = m->n_stack;
    return PQ_OK;
}

/* The items above the last mark; they stay valid until the next push. */
static pq_status pop_mark(machine *m, pq_py ***items, size_t *n)
{
    *items = NULL;
    *n = 0;
    if (!m->n_marks) return BAD(m, "opcode 0x%02x: no mark", m->data[m->op_at]);
    size_t from = m->mark[--m->n_marks];
    *items = m->stack + from;
    *n = m->n_stack - from;
    m->n_stack = from;
    return PQ_OK;
}

static pq_status make(machine *m, pq_py **out, pq_py_kind kind)
{
    pq_status st = pq_arena_alloc(m->ctx, m->arena, out, 1, sizeof **out);
    if (st == PQ_OK) (*out)->kind = kind;
    return st;
}

static pq_status push_int(machine *m, int64_t i)
{
    pq_py *v;
    pq_status st = make(m, &v, PQ_PY_INT);
    if (st != PQ_OK) return st;
    v->u.i = i;
    return push(m, v);
}

static pq_status push_float(machine *m, double f)
{
    pq_py *v;
    pq_status st = make(m, &v, PQ_PY_FLOAT);
    if (st != PQ_OK) return st;
    v->u.f = f;
    return push(m, v);
}

static pq_status push_text(machine *m, pq_py_kind kind, const void *s, size_t n)
{
    pq_py *v;
    char *copy;
    pq_status st = make(m, &v, kind);
    if (st == PQ_OK) st = pq_arena_alloc(m->ctx, m->arena, &copy, n + 1, 1);
    if (st != PQ_OK) return st;
    if (n) memcpy(copy, s, n);
    copy[n] = 0;
    v->u.str.s = copy;
    v->u.str.n = n;
    return push(m, v);
}

/* A string with a length of len_bytes bytes in front. */
static pq_status op_text(machine *m, pq_py_kind kind, size_t len_bytes)
{
    uint64_t n;
    const uint8_t *p;
    pq_status st = take_uint(m, &n, len_bytes);
    if (st == PQ_OK) st = take(m, &p, n);
    return st == PQ_OK ? push_text(m, kind, p, (size_t)n) : st;
}

static pq_status append(machine *m, pq_py *seq, pq_py *const *items, size_t n)
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

static pq_status push_seq(machine *m, pq_py_kind kind, pq_py *const *items, size_t n)
{
    pq_py *v;
    pq_status st = make(m, &v, kind);
    if (st == PQ_OK) st = append(m, v, items, n);
    return st == PQ_OK ? push(m, v) : st;
}

static pq_status op_seq(machine *m, pq_py_kind kind)
{
    pq_py **items;
    size_t n;
    pq_status st = pop_mark(m, &items, &n);
    if (st != PQ_OK) return st;
    if (kind == PQ_PY_DICT && n % 2) return BAD(m, "a dictionary with a key without value");
    return push_seq(m, kind, items, n);
}

static pq_status op_tuple(machine *m, size_t n)
{
    if (m->n_stack - floor_of(m) < n) return BAD(m, "tuple of %zu: the stack has fewer", n);
    m->n_stack -= n;
    return push_seq(m, PQ_PY_TUPLE, m->stack + m->n_stack, n);
}

/* APPEND(S), SETITEM(S), ADDITEMS: items, popped by the caller, into the container now on top. */
static pq_status op_extend(machine *m, pq_py_kind kind, pq_py *const *items, size_t n)
{
    pq_py *v;
    pq_status st = peek(m, &v);
    if (st != PQ_OK) return st;
    if (v->kind != kind)
        return BAD(m, "items for %s, expected %s", pq_py_kind_name(v->kind), pq_py_kind_name(kind));
    if (kind == PQ_PY_DICT && n % 2) return BAD(m, "a dictionary with a key without value");
    return append(m, v, items, n);
}

static pq_status op_extend_marked(machine *m, pq_py_kind kind)
{
    pq_py **items;
    size_t n;
    pq_status st = pop_mark(m, &items, &n);
    return st == PQ_OK ? op_extend(m, kind, items, n) : st;
}

static pq_status op_extend_by(machine *m, pq_py_kind kind, size_t n)
{
    if (m->n_stack - floor_of(m) < n) return BAD(m, "the stack has fewer than %zu items", n);
    m->n_stack -= n;
    return op_extend(m, kind, m->stack + m->n_stack, n);
}

/* ---- memo ---- */

static pq_status memo_put(machine *m, uint64_t index)
{
    pq_py *v;
    pq_status st = peek(m, &v);
    if (st != PQ_OK) return st;
    /* Picklers count up from 0 with at least one byte each. */
    if (index >= m->n)
        return BAD(m, "memo index %llu in a pickle of %zu bytes", (unsigned long long)index, m->n);
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

static pq_status memo_get(machine *m, uint64_t index)
{
    if (index >= m->room_memo || !m->memo[index])
        return BAD(m, "memo index %llu was never stored", (unsigned long long)index);
    return push(m, m->memo[index]);
}

/* ---- text opcodes of protocol 0 ---- */

static pq_status line_number(machine *m, char *text, size_t size)
{
    const char *p = NULL;
    size_t n = 0;
    pq_status st = take_line(m, &p, &n);
    if (st != PQ_OK) return st;
    if (n && p[n - 1] == 'L') n--;
    if (!n || n >= size) return BAD(m, "a number of %zu characters", n);
    memcpy(text, p, n);
    text[n] = 0;
    return PQ_OK;
}

static pq_status op_int_text(machine *m)
{
    char text[32], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    if (m->data[m->op_at] == 'I' && strcmp(text, "00") == 0) return push(m, m->no);
    if (m->data[m->op_at] == 'I' && strcmp(text, "01") == 0) return push(m, m->yes);
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end) return BAD(m, "'%s' is no 64-bit integer", text);
    return push_int(m, v);
}

static pq_status op_float_text(machine *m)
{
    char text[64], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    double v = strtod(text, &end);
    if (*end) return BAD(m, "'%s' is no number", text);
    return push_float(m, v);
}

static pq_status op_memo_text(machine *m, bool put)
{
    char text[32], *end;
    pq_status st = line_number(m, text, sizeof text);
    if (st != PQ_OK) return st;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || !isdigit((unsigned char)text[0])) return BAD(m, "'%s' is no index", text);
    return put ? memo_put(m, v) : memo_get(m, v);
}

static pq_status op_string_text(machine *m)
{
    const char *p = NULL;
    size_t n = 0;
    pq_status st = take_line(m, &p, &n);
    if (st != PQ_OK) return st;
    if (m->data[m->op_at] == 'S') {
        if (n < 2 || (p[0] != '\'' && p[0] != '"') || p[n - 1] != p[0])
            return BAD(m, "a string without quotes");
        p++, n -= 2;
    }
    if (memchr(p, '\\', n)) return bad(m, PQ_E_UNSUPPORTED, "escapes in a text string");
    return push_text(m, PQ_PY_STR, p, n);
}

static pq_status op_long(machine *m, size_t len_bytes)
{
    uint64_t n, v = 0;
    const uint8_t *p;
    pq_status st = take_uint(m, &n, len_bytes);
    if (st == PQ_OK) st = take(m, &p, n);
    if (st != PQ_OK) return st;
    if (n > 8) return bad(m, PQ_E_UNSUPPORTED, "an integer of %llu bytes", (unsigned long long)n);
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    if (n && n < 8 && p[n - 1] & 0x80) v |= UINT64_MAX << 8 * n;
    return push_int(m, (int64_t)v);
}

static pq_status op_binfloat(machine *m)
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

/* ---- globals ---- */

static pq_status push_global(machine *m, const char *module, size_t n_module, const char *name,
                             size_t n_name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *k = known[i].name, *space = strchr(k, ' ');
        if ((size_t)(space - k) != n_module || memcmp(k, module, n_module) != 0) continue;
        if (strlen(space + 1) != n_name || memcmp(space + 1, name, n_name) != 0) continue;
        pq_py *v;
        pq_status st = make(m, &v, PQ_PY_GLOBAL);
        if (st != PQ_OK) return st;
        v->u.i = (int64_t)i;
        return push(m, v);
    }
    return pq_fail(m->ctx, PQ_E_UNSUPPORTED,
                   "pickle global '%.*s.%.*s': refused, only tensors and plain containers are read "
                   "(pickle byte %zu)",
                   n_module < 200 ? (int)n_module : 200, module, n_name < 200 ? (int)n_name : 200,
                   name, m->op_at);
}

static pq_status op_global(machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t n_module = 0, n_name = 0;
    pq_status st = take_line(m, &module, &n_module);
    if (st == PQ_OK) st = take_line(m, &name, &n_name);
    return st == PQ_OK ? push_global(m, module, n_module, name, n_name) : st;
}

static pq_status op_stack_global(machine *m)
{
    pq_py *name = NULL, *module = NULL;
    pq_status st = pop(m, &name);
    if (st == PQ_OK) st = pop(m, &module);
    if (st != PQ_OK) return st;
    if (name->kind != PQ_PY_STR || module->kind != PQ_PY_STR)
        return BAD(m, "a global named by %s and %s, expected strings",
                   pq_py_kind_name(module->kind), pq_py_kind_name(name->kind));
    return push_global(m, module->u.str.s, module->u.str.n, name->u.str.s, name->u.str.n);
}

/* ('storage', storage class, key, location, elements) */
static pq_status op_persid(machine *m)
{
    pq_py *v, *s;
    pq_status st = pop(m, &v);
    if (st != PQ_OK) return st;
    pq_py *const *a = v->u.seq.item;
    if (v->kind != PQ_PY_TUPLE || v->u.seq.n < 5 || a[0]->kind != PQ_PY_STR ||
        strcmp(a[0]->u.str.s, "storage") != 0 || a[1]->kind != PQ_PY_GLOBAL ||
        known[a[1]->u.i].what != CALL_STORAGE || a[2]->kind != PQ_PY_STR || a[4]->kind != PQ_PY_INT)
        return BAD(m, "persistent id is not ('storage', type, key, location, elements)");
    if (a[2]->u.str.n != strlen(a[2]->u.str.s) || a[4]->u.i < 0)
        return BAD(m, "storage '%s' of %lld elements", a[2]->u.str.s, (long long)a[4]->u.i);
    if ((st = make(m, &s, PQ_PY_STORAGE)) != PQ_OK) return st;
    s->u.storage.dtype = known[a[1]->u.i].dtype;
    s->u.storage.untyped = s->u.storage.dtype == PQ_DTYPE_COUNT;
    s->u.storage.key = a[2]->u.str.s;
    s->u.storage.numel = a[4]->u.i;
    return push(m, s);
}

static pq_status dims(machine *m, int64_t *out, int *rank, const pq_py *v, const char *what)
{
    if (v->kind != PQ_PY_TUPLE && v->kind != PQ_PY_LIST)
        return BAD(m, "tensor's %s is %s, expected a tuple", what, pq_py_kind_name(v->kind));
    if (v->u.seq.n > PQ_MAX_RANK)
        return bad(m, PQ_E_UNSUPPORTED, "tensor of %zu dimensions, at most %d", v->u.seq.n,
                   PQ_MAX_RANK);
    *rank = (int)v->u.seq.n;
    for (int i = 0; i < *rank; i++) {
        const pq_py *d = v->u.seq.item[i];
        if (d->kind != PQ_PY_INT || d->u.i < 0)
            return BAD(m, "tensor's %s[%d] is %s %lld, expected a count", what, i,
                       pq_py_kind_name(d->kind), d->kind == PQ_PY_INT ? (long long)d->u.i : 0LL);
        out[i] = d->u.i;
    }
    return PQ_OK;
}

/* (storage, offset, size, stride, …); v3 names the element type at [6]. */
static pq_status rebuild_tensor(machine *m, const pq_py *args, bool v3)
{
    pq_py *v, *const *a = args->u.seq.item;
    pq_py_tensor *t;
    int rank = 0, n_stride = 0;
    pq_status st;
    if (args->u.seq.n < (v3 ? 7u : 4u) || a[0]->kind != PQ_PY_STORAGE || a[1]->kind != PQ_PY_INT ||
        a[1]->u.i < 0)
        return BAD(m, "tensor is not (storage, offset, size, stride, …)");
    if ((st = make(m, &v, PQ_PY_TENSOR)) != PQ_OK) return st;
    if ((st = pq_arena_alloc(m->ctx, m->arena, &t, 1, sizeof *t)) != PQ_OK) return st;
    v->u.tensor = t;
    t->storage = a[0];
    t->offset = a[1]->u.i;
    t->dtype = a[0]->u.storage.dtype;
    if (v3) {
        if (a[6]->kind != PQ_PY_GLOBAL || known[a[6]->u.i].what != CALL_DTYPE)
            return BAD(m, "tensor without an element type");
        t->dtype = known[a[6]->u.i].dtype;
    } else if (a[0]->u.storage.untyped)
        return BAD(m, "tensor of an untyped storage without an element type");
    if ((st = dims(m, t->shape.dim, &rank, a[2], "size")) != PQ_OK) return st;
    if ((st = dims(m, t->stride, &n_stride, a[3], "stride")) != PQ_OK) return st;
    if (rank != n_stride) return BAD(m, "tensor of %d dimensions with %d strides", rank, n_stride);
    t->shape.rank = rank;
    return push(m, v);
}

static pq_status op_reduce(machine *m)
{
    pq_py *args = NULL, *fn = NULL;
    pq_status st = pop(m, &args);
    if (st == PQ_OK) st = pop(m, &fn);
    if (st != PQ_OK) return st;
    if (fn->kind != PQ_PY_GLOBAL || args->kind != PQ_PY_TUPLE)
        return BAD(m, "call of %s with %s", pq_py_kind_name(fn->kind), pq_py_kind_name(args->kind));
    switch (known[fn->u.i].what) {
    case CALL_ORDERED_DICT:
        if (args->u.seq.n) return bad(m, PQ_E_UNSUPPORTED, "OrderedDict made from arguments");
        return push_seq(m, PQ_PY_DICT, NULL, 0);
    case CALL_SIZE:
        if (args->u.seq.n != 1 || args->u.seq.item[0]->kind != PQ_PY_TUPLE)
            return BAD(m, "torch.Size of no tuple");
        return push(m, args->u.seq.item[0]);
    case CALL_TENSOR: return rebuild_tensor(m, args, false);
    case CALL_TENSOR_V3: return rebuild_tensor(m, args, true);
    case CALL_PARAMETER:
        if (!args->u.seq.n || args->u.seq.item[0]->kind != PQ_PY_TENSOR)
            return BAD(m, "parameter without a tensor");
        return push(m, args->u.seq.item[0]);
    case CALL_STORAGE:
    case CALL_DTYPE: break;
    }
    return bad(m, PQ_E_UNSUPPORTED, "call of '%s'", known[fn->u.i].name);
}

/* State of an OrderedDict (its _metadata) or of a tensor: of no use here. */
static pq_status op_build(machine *m)
{
    pq_py *state = NULL, *v = NULL;
    pq_status st = pop(m, &state);
    if (st == PQ_OK) st = peek(m, &v);
    if (st == PQ_OK && v->kind != PQ_PY_DICT && v->kind != PQ_PY_TENSOR)
        st = BAD(m, "state set on %s", pq_py_kind_name(v->kind));
    return st;
}

/* cls.__new__(*args): of OrderedDict only. */
static pq_status op_newobj(machine *m)
{
    if (m->n_stack - floor_of(m) < 2) return BAD(m, "object without class and arguments");
    const pq_py *cls = m->stack[m->n_stack - 2];
    if (cls->kind != PQ_PY_GLOBAL || known[cls->u.i].what != CALL_ORDERED_DICT)
        return bad(m, PQ_E_UNSUPPORTED, "object of %s",
                   cls->kind == PQ_PY_GLOBAL ? known[cls->u.i].name : pq_py_kind_name(cls->kind));
    return op_reduce(m);
}

/* ---- the machine ---- */

static pq_status op_int(machine *m, size_t n)
{
    uint64_t v;
    pq_status st = take_uint(m, &v, n);
    if (st != PQ_OK) return st;
    return push_int(m, n == 4 ? (int32_t)(uint32_t)v : (int64_t)v);
}

static pq_status op_memo(machine *m, bool put, size_t n)
{
    uint64_t index;
    pq_status st = take_uint(m, &index, n);
    if (st != PQ_OK) return st;
    return put ? memo_put(m, index) : memo_get(m, index);
}

static pq_status op_pop(machine *m, bool to_mark)
{
    pq_py *v, **items;
    size_t n;
    if (to_mark) return pop_mark(m, &items, &n);
    if (m->n_marks && m->n_stack == floor_of(m)) { /* POP takes a mark off too */
        m->n_marks--;
        return PQ_OK;
    }
    return pop(m, &v);
}

static pq_status op_protocol(machine *m)
{
    uint64_t v;
    pq_status st = take_uint(m, &v, 1);
    if (st == PQ_OK && v > 5)
        st = bad(m, PQ_E_UNSUPPORTED, "protocol %d, expected at most 5", (int)v);
    return st;
}

static pq_status step(machine *m, uint8_t op)
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
    case '2': st = peek(m, &v); return st == PQ_OK ? push(m, v) : st;
    case 'N': return push(m, m->none);
    case 0x88: return push(m, m->yes);
    case 0x89: return push(m, m->no);
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
    case ')': return push_seq(m, PQ_PY_TUPLE, NULL, 0);
    case 0x85: return op_tuple(m, 1);
    case 0x86: return op_tuple(m, 2);
    case 0x87: return op_tuple(m, 3);
    case 't': return op_seq(m, PQ_PY_TUPLE);
    case ']':
    case 0x8f: return push_seq(m, PQ_PY_LIST, NULL, 0);
    case 'l':
    case 0x91: return op_seq(m, PQ_PY_LIST);
    case 'a': return op_extend_by(m, PQ_PY_LIST, 1);
    case 'e':
    case 0x90: return op_extend_marked(m, PQ_PY_LIST);
    case '}': return push_seq(m, PQ_PY_DICT, NULL, 0);
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
    case 'c': return op_global(m);
    case 'i': /* an instance: refused, by name where the class is unknown */
        st = op_global(m);
        return st == PQ_OK ? bad(m, PQ_E_UNSUPPORTED, "opcode 0x69 (instance)") : st;
    case 0x93: return op_stack_global(m);
    case 'Q': return op_persid(m);
    case 'R': return op_reduce(m);
    case 'b': return op_build(m);
    case 0x81: return op_newobj(m);
    default: return bad(m, PQ_E_UNSUPPORTED, "opcode 0x%02x", op);
    }
}

static pq_status run(machine *m, const pq_py **out)
{
    while (m->at < m->n) {
        pq_py *root;
        m->op_at = m->at;
        const uint8_t op = m->data[m->at++];
        pq_status st;
        if (op == '.') {
            if (m->n_marks) return BAD(m, "end inside an open container");
            if ((st = pop(m, &root)) == PQ_OK) *out = root;
            return st;
        }
        if ((st = step(m, op)) != PQ_OK) return st;
    }
    m->op_at = m->at;
    return BAD(m, "truncated: no end opcode");
}

pq_status pq_pickle_load(pq_ctx *ctx, const pq_py **out, pq_arena *arena, const void *data,
                         size_t bytes)
{
    pq_status st;
    machine m = {.ctx = ctx, .arena = arena, .data = data, .n = bytes};
    *out = NULL;
    if (bytes > MAX_BYTES)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "pickle of %zu bytes, at most %d are read", bytes,
                       (int)MAX_BYTES);
    PQ_TRY(make(&m, &m.none, PQ_PY_NONE));
    PQ_TRY(make(&m, &m.no, PQ_PY_BOOL));
    PQ_TRY(make(&m, &m.yes, PQ_PY_BOOL));
    m.yes->u.i = 1;
    PQ_TRY(run(&m, out));
out:
    pq_free(m.stack);
    pq_free(m.mark);
    pq_free(m.memo);
    return st;
}
