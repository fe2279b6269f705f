// Tokens that are taken one by one: the same answers, from any thread, and every way they end.
#include "fixture.h"
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8 };

static const char STORY[] = "Once upon a time";

static mlxrt_generate_options endless(void) {
    return (mlxrt_generate_options){
        .struct_size = sizeof(mlxrt_generate_options), .max_tokens = 900, .ignore_end = 1};
}

static mlxrt_status open_text(const mlxrt_model *model, const char *text,
                              const mlxrt_generate_options *options, mlxrt_stream **out) {
    return mlxrt_stream_open(model, text, strlen(text), options, out);
}

// Takes all that is left.
static mlxrt_status take_all(mlxrt_stream *stream, answer *out) {
    const mlxrt_token *token = NULL;
    mlxrt_status status;
    while ((status = mlxrt_stream_next(stream, &token)) == MLXRT_STATUS_OK && token != NULL) {
        collect(out, token);
    }
    CHECK(token == NULL);
    return status;
}

// A model that computes one request at a time and lets one wait.
static mlxrt_model *narrow_model(void) {
    mlxrt_load_options options = {.struct_size = sizeof options, .max_concurrent = 1, .max_queue = 1};
    mlxrt_model *model = NULL;
    CHECK_OK(mlxrt_model_load(model_folder(), strlen(model_folder()), &options, &model));
    return model;
}

// Waits until the engine has as many requests waiting and under way.
static bool becomes(const mlxrt_model *model, uint32_t waiting, uint32_t running) {
    mlxrt_stats stats = {.struct_size = sizeof stats};
    for (int i = 0; i < 20000; i++, sleep_ms(1)) {
        if (mlxrt_model_stats(model, &stats) != MLXRT_STATUS_OK) {
            return false;
        }
        if (stats.waiting == waiting && stats.running == running) {
            return true;
        }
    }
    return false;
}

static void check_same(const answer *found, const answer *expected) {
    CHECK(strcmp(found->text, expected->text) == 0);
    CHECK_INT(found->id_count, expected->id_count);
    CHECK(memcmp(found->ids, expected->ids, expected->id_count * sizeof *expected->ids) == 0);
    CHECK_INT(found->calls, expected->calls);
    CHECK_INT(found->broken, 0);
}

static void check_ended(mlxrt_stream *stream, const mlxrt_generate_result *expected) {
    mlxrt_generate_result result = {.struct_size = sizeof result};
    const mlxrt_token *token = (const mlxrt_token *)&result;
    CHECK_OK(mlxrt_stream_result(stream, &result));
    CHECK_INT(result.status, MLXRT_STATUS_OK);
    CHECK_INT(result.finish, expected->finish);
    CHECK_INT(result.stop_token, expected->stop_token);
    CHECK_INT(result.prompt_tokens, expected->prompt_tokens);
    CHECK_INT(result.generated_tokens, expected->generated_tokens);
    CHECK(result.total_seconds >= result.prefill_seconds && result.prefill_seconds >= result.queue_seconds);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(mlxrt_stream_next(stream, &token));
        CHECK(token == NULL);
    }
}

TEST(it_gives_what_the_callback_is_given) {
    mlxrt_string stops[] = {string("."), string("never said")};
    mlxrt_generate_options greedy = {.struct_size = sizeof greedy, .max_tokens = 24, .ignore_end = 1};
    mlxrt_generate_options seeded = greedy, stopped = greedy, whole = {.struct_size = sizeof whole};
    seeded.temperature = 1.5f;
    seeded.seed = 7;
    stopped.stop_strings = stops;
    stopped.stop_string_count = 2;
    stopped.max_tokens = 200;
    const mlxrt_generate_options *all[] = {&greedy, &seeded, &stopped, &whole};
    for (size_t i = 0; i < (short_run() ? 1 : 4); i++) {
        answer expected = {0}, found = {0};
        mlxrt_generate_result result = {.struct_size = sizeof result};
        mlxrt_stream *stream = NULL;
        REQUIRE_OK(continue_text(shared_model(), STORY, all[i], &expected, &result));
        REQUIRE_OK(open_text(shared_model(), STORY, all[i], &stream));
        CHECK_OK(take_all(stream, &found));
        check_same(&found, &expected);
        check_ended(stream, &result);
        mlxrt_stream_free(stream);
    }
}

TEST(ids_and_conversations_too) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 24};
    mlxrt_message message = {string("user"), string("What is the capital of France?")};
    answer by_chat = {0}, by_ids = {0}, expected = {0}, found = {0};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *stream = NULL;
    int32_t ids[] = {5, 17, 300, 9};
    REQUIRE_OK(ask(shared_model(), "What is the capital of France?", &options, &expected, &result));
    REQUIRE_OK(mlxrt_stream_open_chat(shared_model(), &message, 1, NULL, &options, &stream));
    CHECK_OK(take_all(stream, &by_chat));
    check_same(&by_chat, &expected);
    check_ended(stream, &result);
    CHECK_CONTAINS(by_chat.text, "Paris");
    mlxrt_stream_free(stream);
    REQUIRE_OK(mlxrt_model_generate_ids(shared_model(), ids, 4, &options, collect, &by_ids, &result));
    REQUIRE_OK(mlxrt_stream_open_ids(shared_model(), ids, 4, &options, &stream));
    CHECK_OK(take_all(stream, &found));
    check_same(&found, &by_ids);
    check_ended(stream, &result);
    mlxrt_stream_free(stream);
}

TEST(the_result_is_there_all_along) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 6, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *stream = NULL;
    REQUIRE_OK(open_text(shared_model(), STORY, &options, &stream));
    for (uint32_t taken = 0; taken < 6; taken++) {
        const mlxrt_token *token = NULL;
        CHECK_OK(mlxrt_stream_result(stream, &result));
        CHECK_INT(result.finish, MLXRT_FINISH_NONE);
        CHECK_INT(result.status, MLXRT_STATUS_OK);
        CHECK_INT(result.generated_tokens, taken);
        CHECK(result.prompt_tokens > 0);
        REQUIRE_OK(mlxrt_stream_next(stream, &token));
        REQUIRE(token != NULL);
    }
    CHECK_OK(take_all(stream, NULL));
    CHECK_OK(mlxrt_stream_result(stream, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_LENGTH);
    mlxrt_stream_free(stream);
}

TEST(two_streams_in_turns_on_one_thread) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 10, .ignore_end = 1};
    static answer alone[2], found[2];
    const char *prompts[] = {STORY, "The quick brown fox"};
    mlxrt_stream *streams[2] = {NULL};
    const mlxrt_token *tokens[2] = {NULL};
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(continue_text(shared_model(), prompts[i], &options, &alone[i], NULL));
        REQUIRE_OK(open_text(shared_model(), prompts[i], &options, &streams[i]));
    }
    for (int i = 0; i < 10; i++) {
        CHECK_OK(mlxrt_stream_next(streams[0], &tokens[0]));
        CHECK_OK(mlxrt_stream_next(streams[1], &tokens[1]));
        // Each is valid until the next of its own stream.
        REQUIRE(tokens[0] != NULL && tokens[1] != NULL);
        collect(&found[0], tokens[0]);
        collect(&found[1], tokens[1]);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_OK(take_all(streams[i], &found[i]));
        check_same(&found[i], &alone[i]);
        mlxrt_stream_free(streams[i]);
    }
}

TEST(errors_repeat) {
    static const int32_t ids[5000] = {1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *stream = NULL;
    REQUIRE_OK(mlxrt_stream_open_ids(shared_model(), ids, 5000, NULL, &stream));
    for (int i = 0; i < 3; i++) {
        const mlxrt_token *token = (const mlxrt_token *)&result;
        CHECK_FAILS(mlxrt_stream_next(stream, &token), CONTEXT_FULL, "5000");
        CHECK(token == NULL);
    }
    CHECK_OK(mlxrt_stream_result(stream, &result));
    CHECK_INT(result.status, MLXRT_STATUS_CONTEXT_FULL);
    CHECK_INT(result.finish, MLXRT_FINISH_NONE);
    CHECK_INT(result.generated_tokens, 0);
    mlxrt_stream_free(stream);
}

TEST(a_cancel_handle_ends_it) {
    mlxrt_cancel *cancel = NULL;
    mlxrt_generate_options options = endless();
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *stream = NULL;
    const mlxrt_token *token = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    options.cancel = cancel;
    REQUIRE_OK(open_text(shared_model(), STORY, &options, &stream));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(mlxrt_stream_next(stream, &token));
        CHECK(token != NULL);
    }
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    CHECK_STATUS(mlxrt_stream_next(stream, &token), CANCELLED);
    CHECK_OK(mlxrt_cancel_reset(cancel));
    CHECK_STATUS(mlxrt_stream_next(stream, &token), CANCELLED);
    CHECK(token == NULL);
    CHECK_OK(mlxrt_stream_result(stream, &result));
    CHECK_INT(result.status, MLXRT_STATUS_CANCELLED);
    CHECK_INT(result.finish, MLXRT_FINISH_NONE);
    CHECK_INT(result.generated_tokens, 3);
    mlxrt_stream_free(stream);
    mlxrt_cancel_free(cancel);
}

TEST(it_outlives_its_model) {
    mlxrt_model *model = NULL;
    mlxrt_generate_options options = endless(), brief = {.struct_size = sizeof brief, .max_tokens = 2};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *stream = NULL, *complete = NULL, *untouched = NULL;
    const mlxrt_token *token = NULL;
    REQUIRE_OK(load(model_folder(), &model));
    REQUIRE_OK(open_text(model, STORY, &brief, &complete));
    CHECK_OK(take_all(complete, NULL));
    REQUIRE_OK(open_text(model, STORY, &options, &stream));
    REQUIRE_OK(open_text(model, STORY, &options, &untouched));
    CHECK_OK(mlxrt_stream_next(stream, &token));
    REQUIRE(token != NULL);
    mlxrt_model_free(model);
    CHECK_INT(token->struct_size, sizeof *token);
    // A few tokens may have been computed ahead.
    answer rest = {0};
    CHECK_STATUS(take_all(stream, &rest), CLOSED);
    CHECK(rest.calls < 900);
    CHECK_STATUS(mlxrt_stream_next(stream, &token), CLOSED);
    CHECK_OK(mlxrt_stream_result(stream, &result));
    CHECK_INT(result.status, MLXRT_STATUS_CLOSED);
    CHECK_INT(result.generated_tokens, rest.calls + 1);
    CHECK_OK(mlxrt_stream_next(complete, &token));
    CHECK(token == NULL);
    mlxrt_stream_free(complete);
    mlxrt_stream_free(untouched);
    mlxrt_stream_free(stream);
}

typedef struct worker {
    pthread_t thread;
    mlxrt_stream *stream;
    const mlxrt_token *token;
    mlxrt_status status;
    atomic_bool done;
    uint64_t seed;
    answer expected, found;
} worker;

static void *take_next(void *data) {
    worker *self = data;
    self->status = mlxrt_stream_next(self->stream, &self->token);
    self->done = true;
    return NULL;
}

TEST(freeing_ends_a_call_that_waits) {
    mlxrt_model *model = narrow_model();
    mlxrt_generate_options options = endless();
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_stream *first = NULL;
    const mlxrt_token *token = (const mlxrt_token *)&result;
    worker waiting = {.token = (const mlxrt_token *)&result};
    // The first has the only place and nobody takes its tokens.
    REQUIRE_OK(open_text(model, STORY, &options, &first));
    CHECK(becomes(model, 0, 1));
    REQUIRE_OK(open_text(model, STORY, &options, &waiting.stream));
    REQUIRE(pthread_create(&waiting.thread, NULL, take_next, &waiting) == 0);
    CHECK(becomes(model, 1, 1));
    // In use, as soon as the thread has come that far.
    for (int i = 0; i < 5000 && mlxrt_stream_result(waiting.stream, &result) == MLXRT_STATUS_OK; i++) {
        sleep_ms(1);
    }
    CHECK_STATUS(mlxrt_stream_result(waiting.stream, &result), BUSY);
    CHECK_FAILS(mlxrt_stream_next(waiting.stream, &token), BUSY, "in use");
    CHECK(token == NULL);
    CHECK(!waiting.done);
    mlxrt_stream_free(waiting.stream);
    pthread_join(waiting.thread, NULL);
    CHECK_INT(waiting.status, MLXRT_STATUS_CANCELLED);
    CHECK(waiting.token == NULL);
    CHECK_FAILS(mlxrt_stream_next(waiting.stream, &token), BAD_ARGUMENT, "freed");
    CHECK(becomes(model, 0, 1));
    mlxrt_stream_free(first);
    CHECK(becomes(model, 0, 0));
    mlxrt_model_free(model);
}

TEST(too_many_waiting_are_refused) {
    mlxrt_model *model = narrow_model();
    mlxrt_generate_options options = endless();
    mlxrt_stream *streams[3] = {NULL};
    const mlxrt_token *token = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        REQUIRE_OK(open_text(model, STORY, &options, &streams[i]));
        CHECK(becomes(model, i > 0, 1));
    }
    CHECK_FAILS(mlxrt_stream_next(streams[2], &token), BUSY, "waiting");
    CHECK_FAILS(mlxrt_stream_next(streams[2], &token), BUSY, "waiting");
    CHECK_OK(mlxrt_stream_next(streams[0], &token));
    mlxrt_stream_free(streams[0]);
    // Now it is the second's turn.
    CHECK_OK(mlxrt_stream_next(streams[1], &token));
    CHECK(token != NULL);
    mlxrt_stream_free(streams[1]);
    mlxrt_stream_free(streams[2]);
    mlxrt_model_free(model);
}

TEST(a_token_outlives_its_thread_and_its_stream) {
    mlxrt_generate_options options = endless();
    worker other = {0};
    mlxrt_stream *mine = NULL;
    const mlxrt_token *token = NULL;
    answer read = {0};
    REQUIRE_OK(open_text(shared_model(), STORY, &options, &other.stream));
    REQUIRE(pthread_create(&other.thread, NULL, take_next, &other) == 0);
    pthread_join(other.thread, NULL);
    REQUIRE(other.status == MLXRT_STATUS_OK && other.token != NULL);
    collect(&read, other.token); // its thread is gone
    // The thread that frees is another one than that which took the token.
    CHECK_OK(mlxrt_stream_next(other.stream, &token));
    REQUIRE(token != NULL);
    mine = other.stream;
    mlxrt_stream_free(mine);
    collect(&read, token); // its stream is gone
    CHECK_INT(read.calls, 2);
    CHECK_INT(read.broken, 0);
}

static void *take_a_whole_answer(void *data) {
    worker *self = data;
    mlxrt_generate_options options = {.struct_size = sizeof options,
                                      .max_tokens = short_run() ? 6 : 40,
                                      .ignore_end = 1,
                                      .temperature = self->seed % 2 == 0 ? 0 : 1.2f,
                                      .seed = self->seed};
    if (self->expected.calls == 0) {
        CHECK_OK(continue_text(shared_model(), STORY, &options, &self->expected, NULL));
        return NULL;
    }
    if (CHECK_OK(open_text(shared_model(), STORY, &options, &self->stream))) {
        CHECK_OK(take_all(self->stream, &self->found));
        mlxrt_stream_free(self->stream);
        check_same(&self->found, &self->expected);
    }
    return NULL;
}

TEST(many_threads_on_one_model) {
    worker *workers = calloc(THREADS, sizeof *workers);
    int count = 0;
    REQUIRE(workers != NULL);
    for (int i = 0; i < THREADS; i++) {
        workers[i].seed = (uint64_t)i + 1;
        take_a_whole_answer(&workers[i]); // alone
    }
    for (; count < THREADS; count++) {
        if (!CHECK(pthread_create(&workers[count].thread, NULL, take_a_whole_answer, &workers[count]) == 0)) {
            break;
        }
    }
    while (count > 0) {
        pthread_join(workers[--count].thread, NULL);
    }
    free(workers);
}

TEST(null_and_bad_arguments) {
    mlxrt_model *model = shared_model(), *gone = NULL;
    mlxrt_generate_options cold = {.struct_size = sizeof cold, .temperature = -1}, no_size = {0};
    mlxrt_message message = {string("user"), string("Hello")};
    mlxrt_generate_result result = {.struct_size = sizeof result}, no_result = {0};
    mlxrt_stream *stream = (mlxrt_stream *)&stream;
    const mlxrt_token *token = NULL;
    int32_t id = 1, bad_id = -5;
    mlxrt_stream_free(NULL);
    CHECK_FAILS(open_text(NULL, "a", NULL, &stream), BAD_ARGUMENT, "model");
    CHECK(stream == NULL);
    CHECK_STATUS(mlxrt_stream_open_ids(NULL, &id, 1, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_chat(NULL, &message, 1, NULL, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(open_text(model, "a", NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_ids(model, &id, 1, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_chat(model, &message, 1, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open(model, NULL, 3, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_ids(model, NULL, 3, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_ids(model, &bad_id, 1, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_chat(model, NULL, 1, NULL, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open_chat(model, NULL, 0, NULL, NULL, &stream), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_open(model, "\xff", 1, NULL, &stream), BAD_ARGUMENT);
    CHECK_FAILS(open_text(model, "", NULL, &stream), BAD_ARGUMENT, "empty");
    CHECK_FAILS(open_text(model, "a", &cold, &stream), BAD_ARGUMENT, "temperature");
    CHECK_FAILS(open_text(model, "a", &no_size, &stream), BAD_ARGUMENT, "struct_size");
    CHECK(stream == NULL);
    CHECK_FAILS(mlxrt_stream_next(NULL, &token), BAD_ARGUMENT, "stream is NULL");
    CHECK_FAILS(mlxrt_stream_result(NULL, &result), BAD_ARGUMENT, "stream is NULL");
    CHECK_STATUS(mlxrt_stream_next((mlxrt_stream *)(void *)model, &token), BAD_ARGUMENT);
    mlxrt_stream_free((mlxrt_stream *)(void *)model);

    REQUIRE_OK(open_text(model, "a", NULL, &stream));
    CHECK_STATUS(mlxrt_stream_next(stream, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_stream_result(stream, NULL), BAD_ARGUMENT);
    CHECK_FAILS(mlxrt_stream_result(stream, &no_result), BAD_ARGUMENT, "struct_size");
    CHECK_OK(mlxrt_stream_next(stream, &token));
    mlxrt_stream_free(stream);
    CHECK_FAILS(mlxrt_stream_next(stream, &token), BAD_ARGUMENT, "freed");
    CHECK_FAILS(mlxrt_stream_result(stream, &result), BAD_ARGUMENT, "freed");
    mlxrt_stream_free(stream);

    REQUIRE_OK(load(model_folder(), &gone));
    mlxrt_model_free(gone);
    CHECK_FAILS(open_text(gone, "a", NULL, &stream), BAD_ARGUMENT, "freed");
}

int main(void) {
    RUN(it_gives_what_the_callback_is_given);
    RUN(ids_and_conversations_too);
    RUN(the_result_is_there_all_along);
    RUN(two_streams_in_turns_on_one_thread);
    RUN(errors_repeat);
    RUN(a_cancel_handle_ends_it);
    RUN(it_outlives_its_model);
    RUN(freeing_ends_a_call_that_waits);
    RUN(too_many_waiting_are_refused);
    RUN(a_token_outlives_its_thread_and_its_stream);
    RUN(many_threads_on_one_model);
    RUN(null_and_bad_arguments);
    return end_of_tests();
}
