/* The globals that torch.save writes, and what calling them gives. Anything else is refused by
 * name. */
#include <string.h>

#include "read/pickle_machine.h"

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

static pq_status push_global(pq_pickle *m, const char *module, size_t n_module, const char *name,
                             size_t n_name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *k = known[i].name, *space = strchr(k, ' ');
        if ((size_t)(space - k) != n_module || memcmp(k, module, n_module) != 0) continue;
        if (strlen(space + 1) != n_name || memcmp(space + 1, name, n_name) != 0) continue;
        pq_py *v;
        pq_status st = pq_pickle_make(m, &v, PQ_PY_GLOBAL);
        if (st != PQ_OK) return st;
        v->u.i = (int64_t)i;
        return pq_pickle_push(m, v);
    }
    return pq_fail(m->ctx, PQ_E_UNSUPPORTED,
                   "pickle global '%.*s.%.*s': refused, only tensors and plain containers are read "
                   "(pickle byte %zu)",
                   n_module < 200 ? (int)n_module : 200, module, n_name < 200 ? (int)n_name : 200,
                   name, m->op_at);
}

pq_status pq_pickle_global(pq_pickle *m)
{
    const char *module = NULL, *name = NULL;
    size_t n_module = 0, n_name = 0;
    pq_status st = pq_pickle_line(m, &module, &n_module);
    if (st == PQ_OK) st = pq_pickle_line(m, &name, &n_name);
    return st == PQ_OK ? push_global(m, module, n_module, name, n_name) : st;
}

pq_status pq_pickle_stack_global(pq_pickle *m)
{
    pq_py *name = NULL, *module = NULL;
    pq_status st = pq_pickle_pop(m, &name);
    if (st == PQ_OK) st = pq_pickle_pop(m, &module);
    if (st != PQ_OK) return st;
    if (name->kind != PQ_PY_STR || module->kind != PQ_PY_STR)
        return PQ_PICKLE_BAD(m, "a global named by %s and %s, expected strings",
                             pq_py_kind_name(module->kind), pq_py_kind_name(name->kind));
    return push_global(m, module->u.str.s, module->u.str.n, name->u.str.s, name->u.str.n);
}

/* ('storage', storage class, key, location, elements) */
pq_status pq_pickle_persid(pq_pickle *m)
{
    pq_py *v, *s;
    pq_status st = pq_pickle_pop(m, &v);
    if (st != PQ_OK) return st;
    pq_py *const *a = v->u.seq.item;
    if (v->kind != PQ_PY_TUPLE || v->u.seq.n < 5 || a[0]->kind != PQ_PY_STR ||
        strcmp(a[0]->u.str.s, "storage") != 0 || a[1]->kind != PQ_PY_GLOBAL ||
        known[a[1]->u.i].what != CALL_STORAGE || a[2]->kind != PQ_PY_STR || a[4]->kind != PQ_PY_INT)
        return PQ_PICKLE_BAD(m, "persistent id is not ('storage', type, key, location, elements)");
    if (a[2]->u.str.n != strlen(a[2]->u.str.s) || a[4]->u.i < 0)
        return PQ_PICKLE_BAD(m, "storage '%s' of %lld elements", a[2]->u.str.s,
                             (long long)a[4]->u.i);
    if ((st = pq_pickle_make(m, &s, PQ_PY_STORAGE)) != PQ_OK) return st;
    s->u.storage.dtype = known[a[1]->u.i].dtype;
    s->u.storage.untyped = s->u.storage.dtype == PQ_DTYPE_COUNT;
    s->u.storage.key = a[2]->u.str.s;
    s->u.storage.numel = a[4]->u.i;
    return pq_pickle_push(m, s);
}

static pq_status dims(pq_pickle *m, int64_t *out, int *rank, const pq_py *v, const char *what)
{
    if (v->kind != PQ_PY_TUPLE && v->kind != PQ_PY_LIST)
        return PQ_PICKLE_BAD(m, "tensor's %s is %s, expected a tuple", what,
                             pq_py_kind_name(v->kind));
    if (v->u.seq.n > PQ_MAX_RANK)
        return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "tensor of %zu dimensions, at most %d",
                             v->u.seq.n, PQ_MAX_RANK);
    *rank = (int)v->u.seq.n;
    for (int i = 0; i < *rank; i++) {
        const pq_py *d = v->u.seq.item[i];
        if (d->kind != PQ_PY_INT || d->u.i < 0)
            return PQ_PICKLE_BAD(m, "tensor's %s[%d] is %s %lld, expected a count", what, i,
                                 pq_py_kind_name(d->kind),
                                 d->kind == PQ_PY_INT ? (long long)d->u.i : 0LL);
        out[i] = d->u.i;
    }
    return PQ_OK;
}

/* (storage, offset, size, stride, …); v3 names the element type at [6]. */
static pq_status rebuild_tensor(pq_pickle *m, const pq_py *args, bool v3)
{
    pq_py *v, *const *a = args->u.seq.item;
    pq_py_tensor *t;
    int rank = 0, n_stride = 0;
    pq_status st;
    if (args->u.seq.n < (v3 ? 7u : 4u) || a[0]->kind != PQ_PY_STORAGE || a[1]->kind != PQ_PY_INT ||
        a[1]->u.i < 0)
        return PQ_PICKLE_BAD(m, "tensor is not (storage, offset, size, stride, …)");
    if ((st = pq_pickle_make(m, &v, PQ_PY_TENSOR)) != PQ_OK) return st;
    if ((st = pq_arena_alloc(m->ctx, m->arena, &t, 1, sizeof *t)) != PQ_OK) return st;
    v->u.tensor = t;
    t->storage = a[0];
    t->offset = a[1]->u.i;
    t->dtype = a[0]->u.storage.dtype;
    if (v3) {
        if (a[6]->kind != PQ_PY_GLOBAL || known[a[6]->u.i].what != CALL_DTYPE)
            return PQ_PICKLE_BAD(m, "tensor without an element type");
        t->dtype = known[a[6]->u.i].dtype;
    } else if (a[0]->u.storage.untyped)
        return PQ_PICKLE_BAD(m, "tensor of an untyped storage without an element type");
    if ((st = dims(m, t->shape.dim, &rank, a[2], "size")) != PQ_OK) return st;
    if ((st = dims(m, t->stride, &n_stride, a[3], "stride")) != PQ_OK) return st;
    if (rank != n_stride)
        return PQ_PICKLE_BAD(m, "tensor of %d dimensions with %d strides", rank, n_stride);
    t->shape.rank = rank;
    return pq_pickle_push(m, v);
}

pq_status pq_pickle_reduce(pq_pickle *m)
{
    pq_py *args = NULL, *fn = NULL;
    pq_status st = pq_pickle_pop(m, &args);
    if (st == PQ_OK) st = pq_pickle_pop(m, &fn);
    if (st != PQ_OK) return st;
    if (fn->kind != PQ_PY_GLOBAL || args->kind != PQ_PY_TUPLE)
        return PQ_PICKLE_BAD(m, "call of %s with %s", pq_py_kind_name(fn->kind),
                             pq_py_kind_name(args->kind));
    switch (known[fn->u.i].what) {
    case CALL_ORDERED_DICT:
        if (args->u.seq.n)
            return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "OrderedDict made from arguments");
        return pq_pickle_push_seq(m, PQ_PY_DICT, NULL, 0);
    case CALL_SIZE:
        if (args->u.seq.n != 1 || args->u.seq.item[0]->kind != PQ_PY_TUPLE)
            return PQ_PICKLE_BAD(m, "torch.Size of no tuple");
        return pq_pickle_push(m, args->u.seq.item[0]);
    case CALL_TENSOR: return rebuild_tensor(m, args, false);
    case CALL_TENSOR_V3: return rebuild_tensor(m, args, true);
    case CALL_PARAMETER:
        if (!args->u.seq.n || args->u.seq.item[0]->kind != PQ_PY_TENSOR)
            return PQ_PICKLE_BAD(m, "parameter without a tensor");
        return pq_pickle_push(m, args->u.seq.item[0]);
    case CALL_STORAGE:
    case CALL_DTYPE: break;
    }
    return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "call of '%s'", known[fn->u.i].name);
}

/* State of an OrderedDict (its _metadata) or of a tensor: of no use here. */
pq_status pq_pickle_build(pq_pickle *m)
{
    pq_py *state = NULL, *v = NULL;
    pq_status st = pq_pickle_pop(m, &state);
    if (st == PQ_OK) st = pq_pickle_peek(m, &v);
    if (st == PQ_OK && v->kind != PQ_PY_DICT && v->kind != PQ_PY_TENSOR)
        st = PQ_PICKLE_BAD(m, "state set on %s", pq_py_kind_name(v->kind));
    return st;
}

/* cls.__new__(*args): of OrderedDict only. */
pq_status pq_pickle_newobj(pq_pickle *m)
{
    if (m->n_stack - pq_pickle_floor(m) < 2)
        return PQ_PICKLE_BAD(m, "object without class and arguments");
    const pq_py *cls = m->stack[m->n_stack - 2];
    if (cls->kind != PQ_PY_GLOBAL || known[cls->u.i].what != CALL_ORDERED_DICT)
        return pq_pickle_bad(m, PQ_E_UNSUPPORTED, "object of %s",
                             cls->kind == PQ_PY_GLOBAL ? known[cls->u.i].name
                                                       : pq_py_kind_name(cls->kind));
    return pq_pickle_reduce(m);
}
