// Many prompts in one call: the same answers as alone, a result for each, and the model's statistics.
#include "fixture.h"
#include "harness.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 4 };

// Each has more tokens than the one before.
static const char *const TEXTS[COUNT] = {
    "Once",
    "The quick brown fox",
    "What is the capital of France? The capital of France",
    "There was a dragon who lived on a mountain. Every morning it looked at the village and thought of",
};

typedef struct batch {
    mlxrt_string prompts[COUNT];
    mlxrt_generate_result results[COUNT];
    answer answers[COUNT];
    size_t foreign; // calls with a number that no prompt has
    size_t calls, act_after;
    mlxrt_cancel *cancel;
    mlxrt_model *model;
} batch;

static batch *new_batch(void) {
    batch *self = calloc(1, sizeof *self);
    if (self == NULL) {
        abort();
    }
    for (size_t i = 0; i < COUNT; i++) {
        self->prompts[i] = string(TEXTS[i]);
        self->results[i].struct_size = sizeof *self->results;
        self->results[i].status = 77;
    }
    return self;
}

static int32_t gather(void *user_data, size_t index, const mlxrt_token *token) {
    batch *self = user_data;
    if (index >= COUNT) {
        self->foreign++;
        return 1;
    }
    int32_t stop = collect(&self->answers[index], token);
    if (++self->calls == self->act_after) {
        if (self->cancel != NULL) {
            CHECK_OK(mlxrt_cancel_trigger(self->cancel));
        }
        mlxrt_model_free(self->model);
    }
    return stop;
}

static mlxrt_status answer_all(batch *self, const mlxrt_generate_options *options) {
    return mlxrt_model_generate_batch(shared_model(), self->prompts, COUNT, options, gather, self,
                                      self->results);
}

static void check_as_alone(const batch *self, size_t index, const mlxrt_generate_options *options) {
    answer alone = {0};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    const mlxrt_generate_result *found = &self->results[index];
    CHECK_OK(continue_text(shared_model(), TEXTS[index], options, &alone, &result));
    CHECK(strcmp(self->answers[index].text, alone.text) == 0);
    CHECK_INT(self->answers[index].id_count, alone.id_count);
    CHECK_INT(self->answers[index].broken, 0);
    CHECK_INT(found->status, MLXRT_STATUS_OK);
    CHECK_INT(found->finish, result.finish);
    CHECK_INT(found->prompt_tokens, result.prompt_tokens);
    CHECK_INT(found->generated_tokens, result.generated_tokens);
    CHECK(found->total_seconds > 0 && found->queue_seconds <= found->prefill_seconds);
}

TEST(each_prompt_is_answered_as_alone) {
    mlxrt_string stop = string(".");
    mlxrt_generate_options greedy = {
        .struct_size = sizeof greedy, .max_tokens = short_run() ? 6 : 24, .ignore_end = 1};
    mlxrt_generate_options seeded = greedy, stopped = greedy;
    seeded.temperature = 1.2f;
    seeded.seed = 11;
    stopped.max_tokens = 100;
    stopped.stop_strings = &stop;
    stopped.stop_string_count = 1;
    const mlxrt_generate_options *all[] = {&greedy, &seeded, &stopped};
    for (size_t i = 0; i < (short_run() ? 1 : 3); i++) {
        batch *self = new_batch();
        if (CHECK_OK(answer_all(self, all[i]))) {
            for (size_t index = 0; index < COUNT; index++) {
                check_as_alone(self, index, all[i]);
            }
        }
        CHECK_INT(self->foreign, 0);
        free(self);
    }
}

TEST(callback_and_results_may_be_null) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 2};
    batch *self = new_batch();
    CHECK_OK(mlxrt_model_generate_batch(shared_model(), self->prompts, COUNT, &options, NULL, NULL, NULL));
    CHECK_OK(mlxrt_model_generate_batch(shared_model(), self->prompts, COUNT, &options, NULL, NULL,
                                        self->results));
    CHECK_INT(self->results[COUNT - 1].generated_tokens, 2);
    free(self);
}

TEST(a_prompt_that_fails_stops_no_other) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 4, .ignore_end = 1};
    batch *self = new_batch();
    char *text = calloc(1, 6001);
    REQUIRE(text != NULL);
    for (int i = 0; i < 6000; i++) {
        text[i] = i % 2 == 0 ? 'x' : ' ';
    }
    self->prompts[1] = string("");
    self->prompts[2] = string(text);
    CHECK_FAILS(answer_all(self, &options), BAD_ARGUMENT, "prompts[1]");
    CHECK_INT(self->results[1].status, MLXRT_STATUS_BAD_ARGUMENT);
    CHECK_INT(self->results[1].finish, MLXRT_FINISH_NONE);
    CHECK_INT(self->results[2].status, MLXRT_STATUS_CONTEXT_FULL);
    CHECK_INT(self->answers[1].calls + self->answers[2].calls, 0);
    check_as_alone(self, 0, &options);
    check_as_alone(self, 3, &options);
    self->prompts[1] = string(TEXTS[1]);
    CHECK_FAILS(answer_all(self, &options), CONTEXT_FULL, "prompts[2]");
    CHECK_INT(self->results[1].status, MLXRT_STATUS_OK);
    free(text);
    free(self);
}

TEST(the_callback_ends_one_answer) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 12, .ignore_end = 1};
    batch *self = new_batch();
    self->answers[1].stop_after = 3;
    CHECK_OK(answer_all(self, &options));
    CHECK_INT(self->results[1].finish, MLXRT_FINISH_CALLBACK);
    CHECK_INT(self->results[1].status, MLXRT_STATUS_OK);
    CHECK_INT(self->answers[1].calls, 3);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(i == 1 || self->results[i].finish == MLXRT_FINISH_LENGTH);
        CHECK(i == 1 || self->results[i].generated_tokens == 12);
    }
    free(self);
}

// How far each answer came, in the prompts' order.
static void check_partial(const batch *self, mlxrt_status status) {
    for (size_t i = 0; i < COUNT; i++) {
        const mlxrt_generate_result *result = &self->results[i];
        CHECK_INT(result->generated_tokens, self->answers[i].calls);
        CHECK(i == 0 || result->prompt_tokens > self->results[i - 1].prompt_tokens);
        if (self->answers[i].stop_after == 0) {
            CHECK_INT(result->status, status);
            CHECK_INT(result->finish, MLXRT_FINISH_NONE);
            CHECK(result->generated_tokens < 900);
        }
    }
}

TEST(cancelling_leaves_what_was_done) {
    batch *self = new_batch();
    REQUIRE_OK(mlxrt_cancel_new(&self->cancel));
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .max_tokens = 900, .ignore_end = 1, .cancel = self->cancel};
    self->answers[0].stop_after = 2; // is over by then
    self->act_after = short_run() ? 12 : 60;
    CHECK_FAILS(answer_all(self, &options), CANCELLED, "prompts[1]");
    CHECK_INT(self->calls, self->act_after);
    CHECK_INT(self->results[0].status, MLXRT_STATUS_OK);
    CHECK_INT(self->results[0].finish, MLXRT_FINISH_CALLBACK);
    check_partial(self, MLXRT_STATUS_CANCELLED);
    CHECK(self->results[1].generated_tokens > 0);
    // Before it begins, too.
    memset(self->answers, 0, sizeof self->answers);
    CHECK_FAILS(answer_all(self, &options), CANCELLED, "prompts[0]");
    check_partial(self, MLXRT_STATUS_CANCELLED);
    mlxrt_cancel_free(self->cancel);
    free(self);
}

TEST(a_model_that_is_freed_meanwhile) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 900, .ignore_end = 1};
    batch *self = new_batch();
    REQUIRE_OK(load(model_folder(), &self->model));
    self->act_after = 10;
    CHECK_FAILS(
        mlxrt_model_generate_batch(self->model, self->prompts, COUNT, &options, gather, self, self->results),
        CLOSED, "prompts[0]");
    check_partial(self, MLXRT_STATUS_CLOSED);
    CHECK_STATUS(mlxrt_model_generate_batch(self->model, self->prompts, COUNT, NULL, NULL, NULL, NULL),
                 BAD_ARGUMENT);
    free(self);
}

TEST(more_prompts_than_may_wait) {
    mlxrt_load_options narrow = {.struct_size = sizeof narrow, .max_concurrent = 1, .max_queue = 1};
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .max_tokens = short_run() ? 8 : 50, .ignore_end = 1};
    mlxrt_model *model = NULL;
    batch *self = new_batch();
    REQUIRE_OK(mlxrt_model_load(model_folder(), strlen(model_folder()), &narrow, &model));
    CHECK_OK(mlxrt_model_generate_batch(model, self->prompts, COUNT, &options, gather, self, self->results));
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_INT(self->results[i].status, MLXRT_STATUS_OK);
        CHECK_INT(self->results[i].generated_tokens, options.max_tokens);
    }
    mlxrt_model_free(model);
    free(self);
}

TEST(no_prompts) {
    mlxrt_generate_result result = {.struct_size = sizeof result, .status = 77};
    batch *self = new_batch();
    CHECK_OK(mlxrt_model_generate_batch(shared_model(), NULL, 0, NULL, gather, self, NULL));
    CHECK_OK(mlxrt_model_generate_batch(shared_model(), self->prompts, 0, NULL, gather, self, &result));
    CHECK_INT(self->calls + self->foreign, 0);
    CHECK_INT(result.status, 77);
    free(self);
}

TEST(results_of_older_and_newer_callers) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 2, .ignore_end = 1};
    enum { FIRST = 80, NEWER = sizeof(mlxrt_generate_result) + 16 };
    static const size_t sizes[] = {FIRST, NEWER};
    batch *self = new_batch();
    for (size_t i = 0; i < 2; i++) {
        _Alignas(8) unsigned char memory[NEWER * COUNT + 8];
        memset(memory, 0xff, sizeof memory);
        for (size_t index = 0; index < COUNT; index++) {
            memcpy(memory + index * sizes[i], &sizes[i], sizeof(size_t));
        }
        CHECK_OK(mlxrt_model_generate_batch(shared_model(), self->prompts, COUNT, &options, NULL, NULL,
                                            (mlxrt_generate_result *)(void *)memory));
        for (size_t index = 0; index < COUNT; index++) {
            mlxrt_generate_result result = {0};
            memcpy(&result, memory + index * sizes[i], FIRST);
            CHECK_INT(result.struct_size, sizes[i]);
            CHECK_INT(result.generated_tokens, 2);
        }
        unsigned char end = memory[sizes[i] * COUNT - 1], behind = memory[sizes[i] * COUNT];
        CHECK(i == 0 || end == 0);
        CHECK_INT(behind, 0xff);
    }
    free(self);
}

TEST(sizes_that_are_wrong) {
    batch *self = new_batch();
    self->results[2].struct_size += 8;
    CHECK_FAILS(answer_all(self, NULL), BAD_ARGUMENT, "number 2");
    self->results[2].struct_size = 0;
    CHECK_FAILS(answer_all(self, NULL), BAD_ARGUMENT, "number 2");
    self->results[0].struct_size = 0;
    CHECK_FAILS(answer_all(self, NULL), BAD_ARGUMENT, "mlxrt_generate_result: struct_size is 0");
    self->results[0].struct_size = sizeof *self->results + 1;
    CHECK_STATUS(answer_all(self, NULL), BAD_ARGUMENT);
    CHECK_INT(self->calls, 0);
    CHECK_INT(self->results[0].status, 77);
    free(self);
}

TEST(bad_arguments_generate_nothing) {
    mlxrt_generate_options cold = {.struct_size = sizeof cold, .temperature = -1}, no_size = {0};
    batch *self = new_batch();
    CHECK_FAILS(mlxrt_model_generate_batch(NULL, self->prompts, COUNT, NULL, gather, self, self->results),
                BAD_ARGUMENT, "model");
    CHECK_FAILS(mlxrt_model_generate_batch(shared_model(), NULL, 3, NULL, gather, self, NULL), BAD_ARGUMENT,
                "prompts is NULL");
    CHECK_STATUS(
        mlxrt_model_generate_batch(shared_model(), self->prompts, SIZE_MAX / 2, NULL, gather, self, NULL),
        BAD_ARGUMENT);
    CHECK_FAILS(answer_all(self, &cold), BAD_ARGUMENT, "temperature");
    CHECK_FAILS(answer_all(self, &no_size), BAD_ARGUMENT, "struct_size");
    self->prompts[2] = (mlxrt_string){NULL, 4};
    CHECK_FAILS(answer_all(self, NULL), BAD_ARGUMENT, "prompts[2]");
    self->prompts[2] = string("a\xff");
    CHECK_FAILS(answer_all(self, NULL), BAD_ARGUMENT, "prompts[2] is not UTF-8");
    CHECK_INT(self->calls, 0);
    CHECK_INT(self->results[0].status, 77);
    free(self);
}

// The last step is counted a moment after its tokens were sent.
static void idle_stats(mlxrt_stats *stats) {
    for (int i = 0; i < 5000; i++, sleep_ms(1)) {
        if (!CHECK_OK(mlxrt_model_stats(shared_model(), stats)) || stats->running == 0) {
            return;
        }
    }
}

TEST(statistics_move) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 8, .ignore_end = 1};
    mlxrt_stats before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after}, no_size = {0};
    batch *self = new_batch();
    uint64_t tokens = 0;
    idle_stats(&before);
    REQUIRE_OK(answer_all(self, &options));
    idle_stats(&after);
    for (size_t i = 0; i < COUNT; i++) {
        // The last token generated is not computed with.
        tokens += self->results[i].prompt_tokens + self->results[i].generated_tokens - 1;
    }
    CHECK_INT(after.running, 0);
    CHECK_INT(after.waiting, 0);
    CHECK_INT(after.tokens - before.tokens, tokens);
    // Together: alone the decoding would take four times as many steps.
    CHECK(after.steps - before.steps >= 8 && after.steps - before.steps < 8 * 3);
    CHECK(after.step_seconds > before.step_seconds);
    CHECK(after.evaluation_seconds >= before.evaluation_seconds);
    CHECK(after.evaluation_seconds <= after.step_seconds);
    CHECK_FAILS(mlxrt_model_stats(NULL, &after), BAD_ARGUMENT, "model");
    CHECK_STATUS(mlxrt_model_stats(shared_model(), NULL), BAD_ARGUMENT);
    CHECK_FAILS(mlxrt_model_stats(shared_model(), &no_size), BAD_ARGUMENT, "mlxrt_stats: struct_size");
    free(self);
}

int main(void) {
    RUN(each_prompt_is_answered_as_alone);
    RUN(callback_and_results_may_be_null);
    RUN(a_prompt_that_fails_stops_no_other);
    RUN(the_callback_ends_one_answer);
    RUN(cancelling_leaves_what_was_done);
    RUN(a_model_that_is_freed_meanwhile);
    RUN(more_prompts_than_may_wait);
    RUN(no_prompts);
    RUN(results_of_older_and_newer_callers);
    RUN(sizes_that_are_wrong);
    RUN(bad_arguments_generate_nothing);
    RUN(statistics_move);
    return end_of_tests();
}
