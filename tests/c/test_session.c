// Sessions: what was computed is not computed again, and the answers are the same.
#include "fixture.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

static mlxrt_session *new_session(void) {
    mlxrt_session *session = NULL;
    CHECK_OK(mlxrt_session_new(shared_model(), &session));
    return session;
}

static mlxrt_generate_options with_session(const mlxrt_session *session, uint32_t max_tokens) {
    return (mlxrt_generate_options){.struct_size = sizeof(mlxrt_generate_options),
                                    .max_tokens = max_tokens,
                                    .ignore_end = 1,
                                    .session = session};
}

static size_t token_count(const mlxrt_session *session) {
    size_t count = 0;
    mlxrt_status status = mlxrt_session_tokens(session, NULL, 0, &count);
    CHECK(status == MLXRT_STATUS_OK || status == MLXRT_STATUS_BUFFER_TOO_SMALL);
    return count;
}

static const char START[] = "The capital of France is Paris. The capital of";

TEST(a_turn_computes_what_is_new) {
    mlxrt_session *session = new_session();
    mlxrt_generate_options options = with_session(session, 4);
    mlxrt_generate_result result = {.struct_size = sizeof result};
    answer first = {0}, second = {0}, fresh = {0};
    REQUIRE_OK(
        mlxrt_model_generate(shared_model(), START, strlen(START), &options, collect, &first, &result));
    size_t held = token_count(session);
    CHECK_INT(held, result.prompt_tokens + 4);
    REQUIRE_OK(mlxrt_model_generate(shared_model(), " and so on", 10, &options, collect, &second, &result));
    CHECK_INT(result.cached_tokens, held - 1);

    int32_t ids[256];
    size_t count = 0;
    REQUIRE_OK(mlxrt_session_tokens(session, ids, 256, &count));
    mlxrt_generate_options alone = with_session(NULL, 4);
    REQUIRE_OK(mlxrt_model_generate_ids(shared_model(), ids, count - 4, &alone, collect, &fresh, NULL));
    CHECK(strcmp(second.text, fresh.text) == 0);
    mlxrt_session_free(session);
}

TEST(a_chat_keeps_what_it_has_in_common) {
    mlxrt_message messages[] = {
        {string("user"), string("What is the capital of France?")},
        {string("assistant"), string("The capital of France is Paris.")},
        {string("user"), string("What is the capital of Italy?")},
    };
    mlxrt_session *session = new_session();
    mlxrt_generate_options options = {.struct_size = sizeof options, .session = session};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    answer first = {0}, second = {0};
    REQUIRE_OK(mlxrt_model_chat(shared_model(), messages, 1, NULL, &options, collect, &first, &result));
    CHECK_CONTAINS(first.text, "Paris");
    uint32_t prompt = result.prompt_tokens;
    REQUIRE_OK(mlxrt_model_chat(shared_model(), messages, 3, NULL, &options, collect, &second, &result));
    CHECK_CONTAINS(second.text, "Rome");
    CHECK(result.cached_tokens >= prompt);
    mlxrt_session_free(session);
}

TEST(rewind_and_fork) {
    mlxrt_session *session = new_session(), *fork = NULL;
    mlxrt_generate_options options = with_session(session, 4);
    answer first = {0}, second = {0};
    REQUIRE_OK(mlxrt_model_generate(shared_model(), START, strlen(START), &options, collect, &first, NULL));
    size_t held = token_count(session);
    REQUIRE_OK(mlxrt_session_fork(session, &fork));
    REQUIRE_OK(mlxrt_session_rewind(fork, held - 5));
    CHECK_INT(token_count(fork), held - 5);
    CHECK_INT(token_count(session), held);
    int32_t ids[256];
    size_t count = 0;
    REQUIRE_OK(mlxrt_session_tokens(session, ids, 256, &count));
    options.session = fork;
    REQUIRE_OK(mlxrt_model_generate_ids(shared_model(), &ids[held - 5], 1, &options, collect, &second, NULL));
    CHECK(strcmp(first.text, second.text) == 0);
    CHECK_FAILS(mlxrt_session_rewind(session, held + 1), BAD_ARGUMENT, "tokens");
    mlxrt_session_free(session);
    mlxrt_session_free(fork);
}

TEST(files) {
    char path[4096];
    snprintf(path, sizeof path, "%s/session", copy_of_model());
    mlxrt_session *session = new_session(), *again = NULL;
    mlxrt_generate_options options = with_session(session, 4);
    answer first = {0};
    REQUIRE_OK(mlxrt_model_generate(shared_model(), START, strlen(START), &options, collect, &first, NULL));
    REQUIRE_OK(mlxrt_session_export(session, path, strlen(path)));
    REQUIRE_OK(mlxrt_session_import(shared_model(), path, strlen(path), &again));
    CHECK_INT(token_count(again), token_count(session));
    mlxrt_session_free(again);
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    fputs("nonsense", file);
    fclose(file);
    again = (mlxrt_session *)&path;
    CHECK_FAILS(mlxrt_session_import(shared_model(), path, strlen(path), &again), BAD_MODEL, "session");
    CHECK(again == NULL);
    CHECK_STATUS(mlxrt_session_import(shared_model(), "/nowhere", 8, &again), NOT_FOUND);
    CHECK_STATUS(mlxrt_session_export(session, "/no/where", 9), IO);
    mlxrt_session_free(session);
}

TEST(bad_arguments) {
    mlxrt_session *session = new_session(), *other = NULL;
    size_t count = 0;
    CHECK_FAILS(mlxrt_session_new(NULL, &other), BAD_ARGUMENT, "model");
    CHECK_FAILS(mlxrt_session_new(shared_model(), NULL), BAD_ARGUMENT, "out");
    CHECK_FAILS(mlxrt_session_tokens(NULL, NULL, 0, &count), BAD_ARGUMENT, "session");
    CHECK_FAILS(mlxrt_session_fork(session, NULL), BAD_ARGUMENT, "out");
    CHECK_FAILS(mlxrt_session_export(session, NULL, 3), BAD_ARGUMENT, "path");
    CHECK_FAILS(mlxrt_session_import(shared_model(), NULL, 3, &other), BAD_ARGUMENT, "path");
    mlxrt_string prompt = string("a");
    mlxrt_generate_result result = {.struct_size = sizeof result, .prompt_tokens = 7};
    mlxrt_generate_options batch = with_session(session, 4);
    CHECK_FAILS(mlxrt_model_generate_batch(shared_model(), &prompt, 1, &batch, NULL, NULL, &result),
                BAD_ARGUMENT, "not with a batch");
    CHECK_INT(result.prompt_tokens, 7);
    mlxrt_session_free(session);
    mlxrt_session_free(session);
    mlxrt_session_free(NULL);
    CHECK_FAILS(mlxrt_session_rewind(session, 0), BAD_ARGUMENT, "freed");
    mlxrt_generate_options options = with_session(session, 4);
    CHECK_FAILS(mlxrt_model_generate(shared_model(), "a", 1, &options, NULL, NULL, NULL), BAD_ARGUMENT,
                "session");
}

TEST(a_session_ends_with_its_model) {
    mlxrt_model *model = NULL;
    REQUIRE_OK(load(model_folder(), &model));
    mlxrt_session *session = NULL;
    size_t count = 0;
    REQUIRE_OK(mlxrt_session_new(model, &session));
    mlxrt_generate_options options = with_session(session, 4);
    CHECK_FAILS(mlxrt_model_generate(shared_model(), "a", 1, &options, NULL, NULL, NULL), BAD_ARGUMENT,
                "another model");
    mlxrt_model_free(model);
    CHECK_STATUS(mlxrt_session_tokens(session, NULL, 0, &count), CLOSED);
    mlxrt_session_free(session);
}

int main(void) {
    RUN(a_turn_computes_what_is_new);
    RUN(a_chat_keeps_what_it_has_in_common);
    RUN(rewind_and_fork);
    RUN(files);
    RUN(bad_arguments);
    RUN(a_session_ends_with_its_model);
    return end_of_tests();
}
