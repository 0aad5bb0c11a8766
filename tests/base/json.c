/* JSON reading: kinds, messages, hostile text. */
#include "testing.h"

#include "base/json.h"

static void typed_members(void **state)
{
    test_env *e = *state;
    static const char text[] =
        "{\"a\": 3, \"b\": \"x\", \"c\": [1], \"d\": 1.5, \"e\": null, \"f\": 1e300}";
    cJSON *doc;
    const cJSON *list;
    const char *s;
    double v;
    int64_t i;
    assert_ok(e->ctx, pq_json_parse(e->ctx, &doc, text, strlen(text), "text"));
    assert_ok(e->ctx, pq_json_int(e->ctx, &i, doc, "a", "doc"));
    assert_int_equal(i, 3);
    assert_ok(e->ctx, pq_json_string(e->ctx, &s, doc, "b", "doc"));
    assert_string_equal(s, "x");
    assert_ok(e->ctx, pq_json_array(e->ctx, &list, doc, "c", "doc"));
    assert_ok(e->ctx, pq_json_number(e->ctx, &v, doc, "d", "doc"));
    assert_true(v == 1.5);
    assert_fails(e->ctx, pq_json_int(e->ctx, &i, doc, "d", "doc"), PQ_E_FORMAT,
                 "doc: member 'd' is 1.5, expected an integer");
    assert_fails(e->ctx, pq_json_int(e->ctx, &i, doc, "f", "doc"), PQ_E_FORMAT, "integer");
    assert_fails(e->ctx, pq_json_string(e->ctx, &s, doc, "a", "doc"), PQ_E_FORMAT,
                 "doc: member 'a' is a number, expected a string");
    assert_fails(e->ctx, pq_json_number(e->ctx, &v, doc, "z", "doc"), PQ_E_FORMAT,
                 "doc: member 'z' is nothing, expected a number");
    assert_fails(e->ctx, pq_json_array(e->ctx, &list, doc, "e", "doc"), PQ_E_FORMAT,
                 "is null, expected an array");
    cJSON_Delete(doc);
}

static void broken_text_is_refused(void **state)
{
    test_env *e = *state;
    static const char *const bad[] = {"", "{", "{\"a\": }", "[1, 2", "nul", "{\"a\" 1}", "\"open"};
    cJSON *doc;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(e->ctx, pq_json_parse(e->ctx, &doc, bad[i], strlen(bad[i]), "bad.json"),
                     PQ_E_FORMAT, "bad.json: not JSON at byte");
        assert_null(doc);
    }
    char deep[20001];
    memset(deep, '[', 20000);
    deep[20000] = 0;
    assert_fails(e->ctx, pq_json_parse(e->ctx, &doc, deep, 20000, "deep.json"), PQ_E_FORMAT,
                 "deep.json");
}

static void saved_documents_load(void **state)
{
    test_env *e = *state;
    cJSON *doc = cJSON_CreateObject(), *again;
    double v;
    assert_ok(e->ctx, pq_json_check(e->ctx, cJSON_AddNumberToObject(doc, "x", 0.1)));
    assert_ok(e->ctx, pq_json_save(e->ctx, doc, test_path(e, "a.json")));
    assert_ok(e->ctx, pq_json_load(e->ctx, &again, test_path(e, "a.json")));
    assert_ok(e->ctx, pq_json_number(e->ctx, &v, again, "x", "doc"));
    assert_true(v == 0.1);
    cJSON_Delete(doc);
    cJSON_Delete(again);
    assert_fails(e->ctx, pq_json_load(e->ctx, &again, test_path(e, "none.json")), PQ_E_IO,
                 "none.json: No such file");
    assert_fails(e->ctx, pq_json_check(e->ctx, NULL), PQ_E_NOMEM, "no memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_case(typed_members), test_case(broken_text_is_refused),
                                       test_case(saved_documents_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
