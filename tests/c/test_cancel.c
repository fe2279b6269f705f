// Cancelling: before a call, during prefill, decode and load, from other threads and from callbacks.
#include "fixture.h"
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

// A thread that triggers a handle when `go` is set, or after a while.
typedef struct canceller {
    mlxrt_cancel *cancel;
    atomic_bool go, done;
    unsigned delay_ms;
} canceller;

static void *trigger(void *data) {
    canceller *self = data;
    while (!self->go) {
        sleep_ms(1);
    }
    sleep_ms(self->delay_ms);
    CHECK_OK(mlxrt_cancel_trigger(self->cancel));
    self->done = true;
    return NULL;
}

// Lets the other thread trigger, waits until it has, and asks for more.
static void cancel_now(canceller *self) {
    self->go = true;
    while (!self->done) {
        sleep_ms(1);
    }
}

static int32_t cancel_in_callback(void *user_data, const mlxrt_token *token) {
    (void)token;
    cancel_now(user_data);
    return 0;
}

static int32_t cancel_in_progress(void *user_data, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    cancel_now(user_data);
    return 0;
}

TEST(a_triggered_handle_stops_a_call_before_it_begins) {
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    mlxrt_generate_options options = {.struct_size = sizeof options, .cancel = cancel};
    mlxrt_generate_result result = {.struct_size = sizeof result, .generated_tokens = 77};
    answer out = {0};
    CHECK_STATUS(ask(shared_model(), "Hello", &options, &out, &result), CANCELLED);
    CHECK_INT(out.calls, 0);
    CHECK_INT(result.generated_tokens, 0);
    CHECK_INT(result.finish, MLXRT_FINISH_NONE);

    mlxrt_load_options load_options = {.struct_size = sizeof load_options, .cancel = cancel};
    mlxrt_model *model = (mlxrt_model *)&model;
    CHECK_STATUS(mlxrt_model_load(model_folder(), strlen(model_folder()), &load_options, &model), CANCELLED);
    CHECK(model == NULL);
    mlxrt_cancel_free(cancel);
}

TEST(a_reset_handle_stops_nothing) {
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    CHECK_OK(mlxrt_cancel_reset(cancel));
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 3, .cancel = cancel};
    CHECK_OK(continue_text(shared_model(), "Hello", &options, NULL, NULL));
    mlxrt_cancel_free(cancel);
}

TEST(another_thread_stops_generating) {
    canceller other = {0};
    pthread_t thread;
    REQUIRE_OK(mlxrt_cancel_new(&other.cancel));
    REQUIRE(pthread_create(&thread, NULL, trigger, &other) == 0);
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .max_tokens = 500, .ignore_end = 1, .cancel = other.cancel};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    CHECK_STATUS(
        mlxrt_model_generate(shared_model(), "Hello", 5, &options, cancel_in_callback, &other, &result),
        CANCELLED);
    pthread_join(thread, NULL);
    // Before it begins another token: one may have been under way.
    CHECK(result.generated_tokens >= 1 && result.generated_tokens <= 3);
    CHECK_INT(result.finish, MLXRT_FINISH_NONE);
    CHECK(result.prompt_tokens > 0);
    mlxrt_cancel_free(other.cancel);
}

TEST(another_thread_stops_a_prefill) {
    int32_t ids[1000];
    for (int32_t i = 0; i < 1000; i++) {
        ids[i] = 3 + i % 900;
    }
    // Shorter delays each time, until the trigger comes before the first token.
    for (unsigned delay = 32; delay > 0; delay /= 2) {
        canceller other = {.delay_ms = delay};
        pthread_t thread;
        REQUIRE_OK(mlxrt_cancel_new(&other.cancel));
        REQUIRE(pthread_create(&thread, NULL, trigger, &other) == 0);
        mlxrt_generate_options options = {
            .struct_size = sizeof options, .ignore_end = 1, .cancel = other.cancel};
        mlxrt_generate_result result = {.struct_size = sizeof result};
        other.go = true;
        mlxrt_status status =
            mlxrt_model_generate_ids(shared_model(), ids, 1000, &options, NULL, NULL, &result);
        pthread_join(thread, NULL);
        mlxrt_cancel_free(other.cancel);
        if (status == MLXRT_STATUS_CANCELLED && result.generated_tokens == 0) {
            return;
        }
    }
    SKIP("this machine is too fast to be caught during prefill");
}

TEST(another_thread_stops_loading) {
    canceller other = {0};
    pthread_t thread;
    mlxrt_model *model = (mlxrt_model *)&model;
    REQUIRE_OK(mlxrt_cancel_new(&other.cancel));
    REQUIRE(pthread_create(&thread, NULL, trigger, &other) == 0);
    mlxrt_load_options options = {.struct_size = sizeof options,
                                  .cancel = other.cancel,
                                  .progress = cancel_in_progress,
                                  .user_data = &other};
    CHECK_STATUS(mlxrt_model_load(model_folder(), strlen(model_folder()), &options, &model), CANCELLED);
    CHECK(model == NULL);
    pthread_join(thread, NULL);
    mlxrt_cancel_free(other.cancel);
}

static int32_t trigger_in_callback(void *user_data, const mlxrt_token *token) {
    (void)token;
    CHECK_OK(mlxrt_cancel_trigger(user_data));
    return 0;
}

TEST(a_callback_may_trigger_its_own_call) {
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .max_tokens = 500, .ignore_end = 1, .cancel = cancel};
    CHECK_STATUS(
        mlxrt_model_generate(shared_model(), "Hello", 5, &options, trigger_in_callback, cancel, NULL),
        CANCELLED);
    mlxrt_cancel_free(cancel);
}

TEST(the_model_works_on_after_it) {
    answer out = {0};
    CHECK_OK(ask(shared_model(), "What is the capital of France?", NULL, &out, NULL));
    CHECK_CONTAINS(out.text, "Paris");
}

int main(void) {
    RUN(a_triggered_handle_stops_a_call_before_it_begins);
    RUN(a_reset_handle_stops_nothing);
    RUN(another_thread_stops_generating);
    RUN(another_thread_stops_a_prefill);
    RUN(another_thread_stops_loading);
    RUN(a_callback_may_trigger_its_own_call);
    RUN(the_model_works_on_after_it);
    return end_of_tests();
}
